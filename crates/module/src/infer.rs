//! What an un-annotated method does.

use prost_reflect::MethodDescriptor;

use deltamesh_wire::proto::module::v1::Relation;

use crate::method::{Binder, refuse};
use crate::{Error, MethodBinding, MutationKind, relation};

impl Binder<'_> {
    pub(crate) fn infer(&mut self, method: &MethodDescriptor) -> Result<MethodBinding, Error> {
        match (method.is_client_streaming(), method.is_server_streaming()) {
            (true, true) => Err(refuse(method, "streams both ways, which has no meaning without annotation")),
            (false, true) => self.inferred_feed(method),
            (_, false) => self.inferred_mutation(method),
        }
    }

    fn inferred_mutation(&mut self, method: &MethodDescriptor) -> Result<MethodBinding, Error> {
        let input = method.input();
        let name = match self.relation_of(&input) {
            Some(relation) => relation.name.clone(),
            None if self.annotated => {
                let reason = format!("neither it nor its message {} is annotated", input.name());
                return Err(refuse(method, reason));
            }
            None => {
                let relation = relation::relation(&input, Relation::default())?;
                let name = relation.name.clone();
                relation::add(&mut self.bound.relations, relation)?;
                name
            }
        };
        Ok(MethodBinding::Mutation { relation: name, kind: MutationKind::Upsert })
    }
}

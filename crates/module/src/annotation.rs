//! The annotations of a module's messages and methods.

use deltamesh_wire::proto::module::v1::{Method, Relation};
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, MessageDescriptor, MethodDescriptor, Value,
};

use crate::Error;
use crate::place::{MESSAGE_OPTIONS, METHOD_OPTIONS, at_message, at_method};

/// Field numbers of the two options, for places.
pub(crate) const RELATION_OPTION: [i32; 2] = [MESSAGE_OPTIONS, 50810];
pub(crate) const METHOD_OPTION: [i32; 2] = [METHOD_OPTIONS, 50811];

/// How to read the annotations of one descriptor pool.
pub(crate) struct Annotations {
    relation: Option<ExtensionDescriptor>,
    method: Option<ExtensionDescriptor>,
}

impl Annotations {
    pub(crate) fn of(pool: &DescriptorPool) -> Self {
        Self {
            relation: pool.get_extension_by_name("deltamesh.module.v1.relation"),
            method: pool.get_extension_by_name("deltamesh.module.v1.method"),
        }
    }

    /// The annotation of a message, if it has one.
    pub(crate) fn relation(&self, message: &MessageDescriptor) -> Result<Option<Relation>, Error> {
        read(&message.options(), self.relation.as_ref())
            .map_err(|()| at_message(message, &RELATION_OPTION, "annotation cannot be decoded"))
    }

    /// The annotation of a method, if it has one.
    pub(crate) fn method(&self, method: &MethodDescriptor) -> Result<Option<Method>, Error> {
        read(&method.options(), self.method.as_ref())
            .map_err(|()| at_method(method, &METHOD_OPTION, "annotation cannot be decoded"))
    }
}

fn read<T: Message + Default>(
    options: &DynamicMessage,
    extension: Option<&ExtensionDescriptor>,
) -> Result<Option<T>, ()> {
    let Some(extension) = extension.filter(|extension| options.has_extension(extension)) else {
        return Ok(None);
    };
    match options.get_extension(extension).as_ref() {
        Value::Message(message) => message.transcode_to().map(Some).map_err(|_| ()),
        _ => Err(()),
    }
}

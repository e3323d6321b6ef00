//! Texts to a definition, all or nothing.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use deltamesh_wire::proto::module::v1::{self as wire, Module};
use prost_reflect::{DescriptorPool, FileDescriptor};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use crate::annotation::Annotations;
use crate::{Error, ModuleDefinition, SourceFile, method, migration, relation, sql};

/// Path under which a module imports the annotations.
const OPTIONS_PATH: &str = "deltamesh/module/v1/options.proto";
const OPTIONS: &str = include_str!("../../../proto/deltamesh/module/v1/options.proto");

struct InMemory(HashMap<String, String>);

impl FileResolver for InMemory {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.get(name) {
            Some(text) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

impl ModuleDefinition {
    /// Compiles a module from its files.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn compile(name: &str, protos: &[SourceFile], sql: &[SourceFile]) -> Result<Self, Error> {
        let pool = descriptors(protos)?;
        let annotations = Annotations::of(&pool);
        let files: Vec<FileDescriptor> =
            protos.iter().filter_map(|file| pool.get_file_by_name(&file.path)).collect();
        let relations = relation::declared(&files, &annotations)?;
        let (mut sql, migrations) = migration::split(sql)?;
        let views = sql::view_names(&sql);
        let bound = method::bind(&files, &annotations, relations, &views)?;
        sql.extend(bound.views);
        Ok(Self {
            name: name.to_owned(),
            pool,
            relations: bound.relations.into_iter().map(Arc::new).collect(),
            methods: bound.methods.into_iter().map(Arc::new).collect(),
            sql,
            migrations,
            protos: protos.to_vec(),
        })
    }

    /// Compiles a module as it is kept in the bucket. Its descriptor set is for others; the texts decide.
    ///
    /// # Errors
    /// As [`ModuleDefinition::compile`].
    pub fn from_wire(module: &Module) -> Result<Self, Error> {
        let files = |files: &[wire::SourceFile]| -> Vec<SourceFile> {
            files.iter().map(|file| SourceFile::new(&file.path, &file.text)).collect()
        };
        let sql = [files(&module.sql), files(&module.migrations)].concat();
        Self::compile(&module.name, &files(&module.protos), &sql)
    }

    /// The module as it is kept in the bucket, with the SQL that inference adds: to compile it again adds nothing.
    #[must_use]
    pub fn to_wire(&self, version: u64) -> Module {
        let files = |files: &[SourceFile]| -> Vec<wire::SourceFile> {
            files
                .iter()
                .map(|file| wire::SourceFile { path: file.path.clone(), text: file.text.clone() })
                .collect()
        };
        Module {
            name: self.name.clone(),
            version,
            protos: files(&self.protos),
            sql: files(&self.sql),
            descriptor_set: self.descriptor_set().into(),
            migrations: files(&self.migrations),
        }
    }

    /// Serialised `google.protobuf.FileDescriptorSet` of the protos and their imports.
    #[must_use]
    pub fn descriptor_set(&self) -> Vec<u8> {
        self.pool.encode_to_vec()
    }
}

fn descriptors(protos: &[SourceFile]) -> Result<DescriptorPool, Error> {
    let mut texts: HashMap<String, String> =
        protos.iter().map(|file| (file.path.clone(), file.text.clone())).collect();
    texts.entry(OPTIONS_PATH.to_owned()).or_insert_with(|| OPTIONS.to_owned());
    let mut resolver = ChainFileResolver::new();
    resolver.add(InMemory(texts));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    for file in protos {
        compiler.open_file(Path::new(&file.path)).map_err(|error| located(&error, &file.path))?;
    }
    Ok(compiler.descriptor_pool())
}

/// The compiler shows its place only in the debug form: `file:line:column: reason`.
fn located(error: &protox::Error, opened: &str) -> Error {
    let file = error.file().unwrap_or(opened).to_owned();
    let text = format!("{error:?}");
    let rest = text.strip_prefix(file.as_str()).and_then(|rest| rest.strip_prefix(':')).unwrap_or_default();
    let mut parts = rest.splitn(3, ':');
    let mut number = || parts.next().and_then(|part| part.trim().parse::<usize>().ok());
    let at = number().zip(number());
    Error::new(file, at, error.to_string())
}

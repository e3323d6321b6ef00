//! The replicas that `up` was asked for: where each is, which modules' views it keeps, and where its gateway answers.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::absolute;

use anyhow::{Context as _, Result};
use deltamesh_wire::subject;

use crate::options::{Place, Up};
use crate::place::Served;
use crate::refused;
use crate::tail::DEFAULT_NID;

const DEFAULT_NAME: &str = "main";
const DEFAULT_HTTP: &str = "127.0.0.1:0";

/// A replica with its view-builder and its gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replica {
    pub(super) name: String,
    pub(super) url: String,
    /// Modules whose views it keeps; without any: all.
    pub(super) modules: Vec<String>,
    /// Address of its gateway; port 0 takes a free one.
    pub(super) http: SocketAddr,
    /// Node id of its gateway.
    pub(super) nid: String,
}

impl Replica {
    /// As the services take it.
    pub(super) fn argument(&self) -> String {
        format!("{}={}", self.name, self.url)
    }

    /// As the other commands know it.
    pub(super) fn served(&self) -> Served {
        Served {
            replica_name: self.name.clone(),
            replica: without_user(&self.url),
            http: format!("http://{}", self.http),
            nid: self.nid.clone(),
        }
    }
}

/// A URL as it may be shown: a database's users and passwords are left out.
fn without_user(url: &str) -> String {
    if !url.starts_with("postgres") {
        return url.to_owned();
    }
    let (place, parameters) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, place) = place.split_once("//").unwrap_or(("postgres:", place));
    let host = place.rsplit_once('@').map_or(place, |(_, host)| host);
    let is_shown = |parameter: &&str| {
        !["reader=", "user=", "password="].iter().any(|hidden| parameter.starts_with(hidden))
    };
    let parameters: Vec<&str> = parameters.split('&').filter(is_shown).collect();
    let mark = if parameters.iter().all(|parameter| parameter.is_empty()) { "" } else { "?" };
    format!("{scheme}//{host}{mark}{}", parameters.join("&"))
}

/// The replicas in the order in which they were given, or the default one.
pub(super) fn read(place: &Place, up: &Up) -> Result<Vec<Replica>> {
    let default = [format!("sqlite:{}", place.dir.join("replica.db").display())];
    let texts = if up.replicas.is_empty() { &default[..] } else { &up.replicas };
    let mut replicas: Vec<Replica> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let (name, url) = located(text)?;
        if let Some(other) = replicas.iter().find(|other| other.name == name || other.url == url) {
            return Err(refused(format!("--replica {text}: is the replica {} already", other.name)));
        }
        let default = if index == 0 { DEFAULT_NID } else { name.as_str() };
        let nid = node_id(up.nids.get(index).map_or(default, String::as_str))?;
        if replicas.iter().any(|other| other.nid == nid) {
            return Err(refused(format!("--nid {nid}: is that of another replica's gateway")));
        }
        let http = address(up.http.get(index).map_or(DEFAULT_HTTP, String::as_str))?;
        if http.port() != 0 && replicas.iter().any(|other| other.http == http) {
            return Err(refused(format!("--http {http}: is that of another replica's gateway")));
        }
        replicas.push(Replica { name, url, modules: Vec::new(), http, nid });
    }
    for (option, given) in [("http", up.http.len()), ("nid", up.nids.len())] {
        if given > replicas.len() {
            return Err(refused(format!(
                "--{option}: one for each replica, and there are {}",
                replicas.len()
            )));
        }
    }
    up.keep.iter().try_for_each(|text| keep(&mut replicas, text))?;
    if let (Some(all), true) = (replicas.iter().find(|one| one.modules.is_empty()), replicas.len() > 1) {
        let reason = "say which modules' views each replica keeps: a view belongs to one of them";
        return Err(refused(format!("--keep {}=MODULE is missing: {reason}", all.name)));
    }
    Ok(replicas)
}

/// Gives a replica the modules of `REPLICA=MODULE,…`.
fn keep(replicas: &mut [Replica], text: &str) -> Result<()> {
    let (name, modules) = match (text.split_once('='), &*replicas) {
        (Some((name, modules)), _) => (name.to_owned(), modules),
        (None, [only]) => (only.name.clone(), text),
        (None, _) => return Err(refused(format!("--keep {text}: write REPLICA=MODULE,…"))),
    };
    for module in modules.split(',').map(str::trim) {
        if !crate::module::is_valid(module) {
            return Err(refused(format!("--keep {text}: {module:?} is no name of a module")));
        }
        if let Some(other) = replicas.iter().find(|other| other.modules.iter().any(|kept| kept == module)) {
            let reason = format!("the replica {} keeps it already, and a view belongs to one", other.name);
            return Err(refused(format!("--keep {text}: module {module}: {reason}")));
        }
        let Some(replica) = replicas.iter_mut().find(|replica| replica.name == name) else {
            return Err(refused(format!("--keep {text}: there is no --replica {name}=…")));
        };
        replica.modules.push(module.to_owned());
    }
    Ok(())
}

/// Name and URL; a relative path of a SQLite file becomes absolute, so that the URL is good anywhere.
fn located(text: &str) -> Result<(String, String)> {
    let named = text.split_once('=').filter(|(name, _)| !name.contains([':', '/']));
    let (name, url) = named.unwrap_or((DEFAULT_NAME, text));
    if !subject::is_valid_name(name) {
        return Err(refused(format!("--replica {text}: a name has a-z, 0-9 and _, at most 32")));
    }
    let url = match url.strip_prefix("sqlite:") {
        Some("") => return Err(refused(format!("--replica {text}: the path is missing"))),
        Some(path) => format!("sqlite:{}", absolute(path).context("find the replica")?.display()),
        None if url.starts_with("postgres://") || url.starts_with("postgresql://") => url.to_owned(),
        None => {
            return Err(refused(format!("--replica {text}: write sqlite:PATH or postgres://HOST/DATABASE")));
        }
    };
    Ok((name.to_owned(), url))
}

fn node_id(text: &str) -> Result<String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if text.is_empty() || !text.bytes().all(is_token) {
        return Err(refused(format!("--nid {text}: use letters, digits, _ and -")));
    }
    Ok(text.to_owned())
}

fn address(text: &str) -> Result<SocketAddr> {
    let found = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    found.ok_or_else(|| refused(format!("--http {text}: write ADDRESS:PORT")))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use expect_test::{Expect, expect};

    use super::{located, read, without_user};
    use crate::options::{Command, Options};

    #[test]
    fn users_and_passwords_are_not_shown() {
        let check = |url: &str, expected: &str| assert_eq!(without_user(url), expected);
        check("sqlite:/a@b.db", "sqlite:/a@b.db");
        check("postgres://u:p@h/d?schema=s", "postgres://h/d?schema=s");
        check("postgres://h/d?reader=r:p&schema=s&password=p", "postgres://h/d?schema=s");
        check("postgres://u@h/d?reader=r@x:p", "postgres://h/d");
    }

    #[test]
    fn a_replica_may_have_a_name() {
        let check = |text: &str, name: &str, url: &str| {
            assert_eq!(located(text).unwrap(), (name.to_owned(), url.to_owned()));
        };
        check("sqlite:/a=b.db", "main", "sqlite:/a=b.db");
        check("eu=sqlite:/r.db", "eu", "sqlite:/r.db");
        check("postgres://h/d?schema=s", "main", "postgres://h/d?schema=s");
        check("eu=postgres://h/d", "eu", "postgres://h/d");
        for bad in ["sqlite:", "mysql://h/d", "EU=sqlite:/r.db"] {
            assert!(located(bad).is_err(), "{bad}");
        }
    }

    fn check(arguments: &str, expected: Expect) {
        let line = format!("deltamesh up --dir /state {arguments}");
        let options = Options::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Up(up) = options.command else { panic!("up") };
        let said = match read(&options.place, &up) {
            Ok(replicas) => {
                let line = |one: &super::Replica| {
                    format!("{}={} {} {} {}", one.name, one.url, one.modules.join(","), one.http, one.nid)
                };
                replicas.iter().map(line).collect::<Vec<_>>().join("\n")
            }
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&said);
    }

    #[test]
    fn each_replica_has_its_modules_and_its_gateway() {
        check("", expect!["main=sqlite:/state/replica.db  127.0.0.1:0 deltamesh"]);
        check("--keep chat --nid n", expect!["main=sqlite:/state/replica.db chat 127.0.0.1:0 n"]);
        let two = "--replica a=sqlite:/a.db --replica b=postgres://h/d";
        check(
            &format!("{two} --keep b=y --keep a=x,z --http 127.0.0.1:80"),
            expect![[r#"
                a=sqlite:/a.db x,z 127.0.0.1:80 deltamesh
                b=postgres://h/d y 127.0.0.1:0 b"#]],
        );
        check(
            &format!("{two} --keep a=x"),
            expect![
                "--keep b=MODULE is missing: say which modules' views each replica keeps: a view belongs to one of them"
            ],
        );
        check(
            &format!("{two} --keep a=x --keep b=x"),
            expect!["--keep b=x: module x: the replica a keeps it already, and a view belongs to one"],
        );
        check(&format!("{two} --keep x"), expect!["--keep x: write REPLICA=MODULE,…"]);
        check(&format!("{two} --keep c=x"), expect!["--keep c=x: there is no --replica c=…"]);
        check(
            &format!("{two} --keep a=x --keep b=y --nid b"),
            expect!["--nid b: is that of another replica's gateway"],
        );
        check(
            "--replica sqlite:/a.db --replica sqlite:/b.db",
            expect!["--replica sqlite:/b.db: is the replica main already"],
        );
        check(
            "--http 127.0.0.1:1 --http 127.0.0.1:2",
            expect!["--http: one for each replica, and there are 1"],
        );
    }
}

//! The file of `--web.config.file`, in the format of Prometheus' exporter-toolkit.

use anyhow::{Context, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, crypto, version};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// Certificates and users.
#[derive(Default)]
pub struct Config {
    /// TLS; `None` where it is not spoken.
    pub tls: Option<Arc<ServerConfig>>,
    /// Hashes of passwords by user; empty where anybody may read.
    pub users: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    tls_server_config: Option<Tls>,
    basic_auth_users: BTreeMap<String, String>,
    http_server_config: Option<Http>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    cert_file: PathBuf,
    key_file: PathBuf,
    client_auth_type: Option<String>,
    client_ca_file: Option<PathBuf>,
    min_version: Option<String>,
    max_version: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Http {
    /// Accepted and without effect: HTTP/1.1 is spoken.
    #[serde(rename = "http2")]
    _http2: Option<bool>,
}

impl Config {
    /// Reads the file, and those that it names.
    ///
    /// # Errors
    /// If one cannot be read, or has something that is not known here.
    pub fn read(path: &Path) -> anyhow::Result<Config> {
        let of = || format!("the web configuration {}", path.display());
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", of()))?;
        let file: Option<File> = serde_norway::from_str(&text).with_context(|| {
            format!("{} is wrong; of exporter-toolkit's format there are tls_server_config, basic_auth_users and http_server_config.http2", of())
        })?;
        let File { tls_server_config, basic_auth_users, http_server_config: _ } = file.unwrap_or_default();
        for (user, hash) in &basic_auth_users {
            if bcrypt::HashParts::from_str(hash).is_err() {
                bail!(
                    "{}: the password of {user:?} is no bcrypt hash; make one with `htpasswd -nBC 10 {user}`",
                    of()
                );
            }
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        let tls = tls_server_config.map(|tls| tls.build(folder)).transpose().with_context(of)?;
        Ok(Config { tls, users: basic_auth_users })
    }
}

impl Tls {
    fn build(&self, folder: &Path) -> anyhow::Result<Arc<ServerConfig>> {
        let cert = folder.join(&self.cert_file);
        let chain = certificates(&cert)?;
        let key = folder.join(&self.key_file);
        let key = PrivateKeyDer::from_pem_file(&key)
            .with_context(|| format!("there is no private key in {}", key.display()))?;
        let versions = self.versions()?;
        let provider = Arc::new(crypto::ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&versions)?;
        let wanted = self.client_auth_type.as_deref().unwrap_or("NoClientCert");
        let builder = match (wanted, &self.client_ca_file) {
            ("NoClientCert" | "", None) => builder.with_no_client_auth(),
            ("RequireAndVerifyClientCert" | "VerifyClientCertIfGiven", Some(ca)) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(&folder.join(ca))? {
                    roots.add(certificate)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier =
                    if wanted.starts_with("Verify") { verifier.allow_unauthenticated() } else { verifier };
                builder.with_client_cert_verifier(verifier.build()?)
            }
            ("NoClientCert" | "", Some(_)) => {
                bail!("client_ca_file is given, and client_auth_type is NoClientCert")
            }
            (_, None) => bail!("client_auth_type is {wanted}, and client_ca_file is missing"),
            _ => bail!(
                "client_auth_type {wanted} is not known; choose from NoClientCert, VerifyClientCertIfGiven, \
                 RequireAndVerifyClientCert"
            ),
        };
        let mut config = builder.with_single_cert(chain, key).context("certificate and key do not fit")?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn versions(&self) -> anyhow::Result<Vec<&'static SupportedProtocolVersion>> {
        let number = |word: &Option<String>, default: u8| match word.as_deref() {
            None => Ok(default),
            Some("TLS12") => Ok(2),
            Some("TLS13") => Ok(3),
            Some(other) => bail!("TLS version {other} is not spoken; choose from TLS12, TLS13"),
        };
        let (min, max) = (number(&self.min_version, 2)?, number(&self.max_version, 3)?);
        let all = [(2, &version::TLS12), (3, &version::TLS13)];
        let versions: Vec<_> = all
            .into_iter()
            .filter(|(number, _)| (min..=max).contains(number))
            .map(|(_, version)| version)
            .collect();
        if versions.is_empty() {
            bail!("min_version is above max_version");
        }
        Ok(versions)
    }
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let none = || format!("there is no certificate in {}", path.display());
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).with_context(none)?.collect();
    let found = found.with_context(none)?;
    if found.is_empty() { bail!(none()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("exitscope-web-{}-{number}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let config = Config::read(&path).map_err(|error| format!("{error:#}"));
        std::fs::remove_file(&path).unwrap();
        config
    }

    #[test]
    fn what_is_not_known_or_missing_is_said() {
        assert!(read("").is_ok_and(|config| config.tls.is_none() && config.users.is_empty()));
        assert!(read("http_server_config:\n  http2: false\n").is_ok());
        let hash = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG";
        let config = read(&format!("basic_auth_users:\n  prom: {hash}\n")).unwrap();
        assert_eq!(config.users["prom"], hash);
        let tls =
            |more: &str| format!("tls_server_config:\n  cert_file: none.crt\n  key_file: none.key\n{more}");
        for (text, words) in [
            ("basic_auth_users:\n  prom: secret\n".to_owned(), vec!["\"prom\"", "bcrypt", "htpasswd"]),
            (tls(""), vec!["no certificate", "none.crt"]),
            (tls("  cipher_suites: [x]\n"), vec!["cipher_suites"]),
            ("rate_limit: 3\n".to_owned(), vec!["rate_limit", "basic_auth_users"]),
            ("- a\n".to_owned(), vec!["is wrong"]),
        ] {
            let error = read(&text).err().unwrap();
            assert!(words.iter().all(|word| error.contains(word)), "{text}: {error}");
        }
    }
}

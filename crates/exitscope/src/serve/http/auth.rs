//! Basic authentication (RFC 7617).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;

/// Maximum number of credentials whose hash is remembered to be right.
const REMEMBERED: usize = 64;

/// Hash that an unknown user's password is held against, so that the time tells nobody which users there are.
const NOBODY: &str = "$2b$10$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

/// Users who may read.
pub struct Auth {
    users: BTreeMap<String, String>,
    /// Digests of credentials that were right. Behind a lock that one thread at a time holds while it computes a hash, so that
    /// wrong passwords take one CPU at most.
    right: Mutex<HashSet<[u8; 32]>>,
    hashing: Mutex<()>,
}

impl Auth {
    /// Takes the hashes of passwords by user.
    pub fn new(users: BTreeMap<String, String>) -> Auth {
        Auth { users, right: Mutex::default(), hashing: Mutex::default() }
    }

    /// Returns true if somebody with this header may read.
    pub fn allows(&self, header: Option<&[u8]>) -> bool {
        if self.users.is_empty() {
            return true;
        }
        let Some((user, password)) = header.and_then(credentials) else { return false };
        let hash = self.users.get(&user);
        let digest: [u8; 32] =
            Sha256::digest(format!("{}\0{user}\0{password}", hash.map_or("", |hash| hash))).into();
        let knows = |digest| self.right.lock().is_ok_and(|right| right.contains(digest));
        if knows(&digest) {
            return true;
        }
        let Ok(_one) = self.hashing.lock() else { return false };
        let is_right =
            bcrypt::verify(&password, hash.map_or(NOBODY, |hash| hash)).unwrap_or(false) && hash.is_some();
        if let (true, Ok(mut right)) = (is_right, self.right.lock()) {
            if right.len() >= REMEMBERED {
                right.clear();
            }
            right.insert(digest);
        }
        is_right
    }
}

/// User and password of a header.
fn credentials(header: &[u8]) -> Option<(String, String)> {
    let (scheme, rest) = std::str::from_utf8(header).ok()?.split_once(' ')?;
    let plain = STANDARD.decode(rest.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let (user, password) = std::str::from_utf8(&plain).ok()?.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_of_a_user_reads() {
        let hash = bcrypt::hash("right: horse", 4).unwrap();
        let auth = Auth::new([("prom".to_owned(), hash)].into());
        let header = |text: &str| format!("Basic {}", STANDARD.encode(text)).into_bytes();
        for _ in 0..2 {
            assert!(auth.allows(Some(&header("prom:right: horse"))));
            for wrong in ["prom:wrong", "prom:", "other:right: horse", "prom", ""] {
                assert!(!auth.allows(Some(&header(wrong))), "{wrong}");
            }
        }
        assert!(!auth.allows(None) && !auth.allows(Some(b"Bearer x")) && !auth.allows(Some(b"Basic \xff")));
        assert!(Auth::new(BTreeMap::new()).allows(None));
        assert!(bcrypt::verify("", NOBODY).is_ok(), "it costs as much as a user's");
    }
}

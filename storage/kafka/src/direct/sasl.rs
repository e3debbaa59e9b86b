//! How the program proves to a broker who it is: PLAIN, which the configuration allows
//! over TLS alone, and SCRAM (RFC 5802), in which the broker proves the same.
//!
//! Password and proofs are never shown, and a broker that does not know the password is
//! not spoken to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::digest::Digest as _;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq;

use super::connection::Connection;
use super::requests::{self, SASL_AUTHENTICATE, SASL_HANDSHAKE};
use super::security::Login;
use super::trouble::Trouble;
use crate::config::SaslMechanism;

/// Kafka's own bounds; fewer rounds give a listener the password too cheaply, and more
/// would let a false broker keep this process busy.
const ROUNDS_MIN: u32 = 4096;
const ROUNDS_MAX: u32 = 1 << 17;
const NONCE_BYTES: usize = 24;

/// Says who the program is; returns for how many milliseconds that holds, 0 for good.
pub(super) async fn authenticate(connection: &mut Connection, login: &Login) -> Result<u64, Trouble> {
    let mechanism = login.mechanism.name();
    let answer = connection.call(SASL_HANDSHAKE, |out| requests::put_sasl_handshake(out, mechanism)).await?;
    requests::read_sasl_handshake(answer, mechanism)?;
    match login.mechanism {
        SaslMechanism::Plain => {
            let message = format!("\0{}\0{}", login.username, login.password);
            Ok(say(connection, mechanism, message.as_bytes()).await?.1)
        }
        SaslMechanism::ScramSha256 => scram::<S256>(connection, login).await,
        SaslMechanism::ScramSha512 => scram::<S512>(connection, login).await,
    }
}

async fn say<'c>(
    connection: &'c mut Connection,
    mechanism: &'static str,
    message: &[u8],
) -> Result<(&'c [u8], u64), Trouble> {
    let answer =
        connection.call(SASL_AUTHENTICATE, |out| requests::put_sasl_authenticate(out, message)).await?;
    requests::read_sasl_authenticate(answer, mechanism)
}

async fn scram<H: Hash>(connection: &mut Connection, login: &Login) -> Result<u64, Trouble> {
    let mechanism = login.mechanism.name();
    let mut nonce = [0; NONCE_BYTES];
    rand::fill(&mut nonce);
    let refused = |detail: &str| Trouble::Refused { mechanism, detail: detail.to_owned() };
    let client = Client { username: &login.username, nonce: BASE64.encode(nonce) };
    let first = client.first();
    let (challenge, _) = say(connection, mechanism, format!("n,,{first}").as_bytes()).await?;
    let challenge = String::from_utf8_lossy(challenge).into_owned();
    let (answer, signature) = client.answer::<H>(&login.password, &challenge).map_err(refused)?;
    let (verdict, lifetime) = say(connection, mechanism, answer.as_bytes()).await?;
    check_signature(verdict, &signature).map_err(refused)?;
    Ok(lifetime)
}

/// The client's side of one SCRAM exchange.
struct Client<'l> {
    username: &'l str,
    nonce: String,
}

impl Client<'_> {
    /// The first message without its channel binding, of which Kafka has none.
    fn first(&self) -> String {
        let name = self.username.replace('=', "=3D").replace(',', "=2C");
        format!("n={name},r={}", self.nonce)
    }

    /// The last message, and how a server that knows the password will sign.
    fn answer<H: Hash>(&self, password: &str, challenge: &str) -> Result<(String, Vec<u8>), &'static str> {
        let field = |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name));
        let nonce = field("r=").ok_or("the broker's challenge has no nonce")?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("the broker's nonce does not go on from ours");
        }
        let salt = field("s=").and_then(|salt| BASE64.decode(salt).ok());
        let salt = salt.ok_or("the broker's challenge has no salt")?;
        let rounds = field("i=").and_then(|rounds| rounds.parse().ok());
        let rounds: u32 = rounds.ok_or("the broker's challenge has no number of rounds")?;
        if !(ROUNDS_MIN..=ROUNDS_MAX).contains(&rounds) {
            return Err("the broker asks for too few or too many rounds");
        }
        let salted = H::salted(password.as_bytes(), &salt, rounds);
        let key = H::mac(&salted, b"Client Key");
        // `biws` is `n,,`: no channel binding.
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{challenge},{without_proof}", self.first());
        let signature = H::mac(&H::hash(&key), signed.as_bytes());
        let proof: Vec<u8> = key.iter().zip(&signature).map(|(key, signature)| key ^ signature).collect();
        let server = H::mac(&H::mac(&salted, b"Server Key"), signed.as_bytes());
        Ok((format!("{without_proof},p={}", BASE64.encode(proof)), server))
    }
}

fn check_signature(verdict: &[u8], expected: &[u8]) -> Result<(), &'static str> {
    let signature = verdict.strip_prefix(b"v=").map(|rest| rest.split(|b| *b == b',').next().unwrap_or(rest));
    let signature = signature.and_then(|signature| BASE64.decode(signature).ok());
    let signature = signature.ok_or("the broker refused the proof of the password")?;
    if bool::from(signature.ct_eq(expected)) {
        Ok(())
    } else {
        Err("the broker does not know the password itself, so it is a false one")
    }
}

/// What SCRAM needs of a hash function.
trait Hash {
    fn hash(bytes: &[u8]) -> Vec<u8>;
    fn mac(key: &[u8], bytes: &[u8]) -> Vec<u8>;
    /// `Hi` of RFC 5802.
    fn salted(password: &[u8], salt: &[u8], rounds: u32) -> Vec<u8>;
}

struct S256;
struct S512;

macro_rules! hash {
    ($name:ty, $hash:ty) => {
        impl Hash for $name {
            fn hash(bytes: &[u8]) -> Vec<u8> {
                <$hash>::digest(bytes).to_vec()
            }

            fn mac(key: &[u8], bytes: &[u8]) -> Vec<u8> {
                let mac = Hmac::<$hash>::new_from_slice(key).expect("a key of any length");
                mac.chain_update(bytes).finalize().into_bytes().to_vec()
            }

            fn salted(password: &[u8], salt: &[u8], rounds: u32) -> Vec<u8> {
                let keyed = Hmac::<$hash>::new_from_slice(password).expect("a key of any length");
                let mut last =
                    keyed.clone().chain_update(salt).chain_update([0, 0, 0, 1]).finalize().into_bytes();
                let mut all = last;
                for _ in 1..rounds {
                    last = keyed.clone().chain_update(last).finalize().into_bytes();
                    all.iter_mut().zip(&last).for_each(|(all, last)| *all ^= last);
                }
                all.to_vec()
            }
        }
    };
}

hash!(S256, Sha256);
hash!(S512, Sha512);

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange in RFC 7677.
    #[test]
    fn the_published_exchange_has_the_published_proofs() {
        let client = Client { username: "user", nonce: "rOprNGfwEbeRWgbNEkqO".to_owned() };
        assert_eq!(client.first(), "n=user,r=rOprNGfwEbeRWgbNEkqO");
        let challenge =
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (answer, signature) = client.answer::<S256>("pencil", challenge).unwrap();
        assert_eq!(
            answer,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        let verdict = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        check_signature(verdict, &signature).unwrap();
        assert!(check_signature(b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", &signature).is_err());
        assert!(check_signature(b"e=invalid-proof", &signature).is_err());
    }

    #[test]
    fn a_false_brokers_challenge_is_refused() {
        let client = Client { username: "a=b,c", nonce: "ours".to_owned() };
        assert_eq!(client.first(), "n=a=3Db=2Cc,r=ours", "the name is escaped");
        for challenge in [
            "",
            "r=others,s=AAAA,i=4096",
            "r=ours,s=AAAA,i=4096",
            "r=ours2,s=%,i=4096",
            "r=ours2,s=AAAA,i=1",
            "r=ours2,s=AAAA,i=99999999",
            "r=ours2,s=AAAA",
        ] {
            assert!(client.answer::<S512>("password", challenge).is_err(), "{challenge}");
        }
    }
}

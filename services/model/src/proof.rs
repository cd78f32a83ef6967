//! How each side of a pairing proves that it knows the code: by HMAC-SHA-256, keyed by the code's secret, of what it is and of the TLS
//! connection that it stands in ([`crate::tunnel::proven`]).

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::{
    code::PairingSecret,
    tunnel::{Side, proven},
};

/// What a side says in the connection with this exporter, as it stands in [`crate::tunnel::PROOF`].
pub fn make(secret: &PairingSecret, side: Side, exported: &[u8; 32]) -> String {
    hex::encode(mac(secret, side, exported).finalize().into_bytes())
}

/// Whether this is what that side says. It takes as long when it is not.
pub fn is_good(proof: &[u8], secret: &PairingSecret, side: Side, exported: &[u8; 32]) -> bool {
    let proof = hex::decode(proof).unwrap_or_default();
    mac(secret, side, exported).verify_slice(&proof).is_ok()
}

fn mac(secret: &PairingSecret, side: Side, exported: &[u8; 32]) -> Hmac<Sha256> {
    let mac = Hmac::<Sha256>::new_from_slice(secret.bytes());
    let mut mac = mac.expect("HMAC takes keys of any length (RFC 2104, 3)");
    mac.update(&proven(side, exported));
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::JoinSecret;

    #[test]
    fn a_proof_is_good_for_its_secret_its_side_and_its_connection_alone() {
        let secret = PairingSecret::from(JoinSecret::new([7; 8]));
        let other = PairingSecret::from(JoinSecret::new([8; 8]));
        let proof = make(&secret, Side::Panel, &[1; 32]);
        // python3: hmac.new(bytes([7] * 8), b"clusterducks pair panel\0" + bytes([1] * 32), "sha256").hexdigest()
        assert_eq!(proof, "d90d5fc44ac67168845132e6e29154573067acba772ddd2337690e55cb603dd5");
        let good = |secret, side, exported| is_good(proof.as_bytes(), secret, side, exported);
        assert!(good(&secret, Side::Panel, &[1; 32]));
        assert!(!good(&other, Side::Panel, &[1; 32]));
        assert!(!good(&secret, Side::Tunnel, &[1; 32]));
        assert!(!good(&secret, Side::Panel, &[2; 32]));
        assert!(!is_good(b"", &secret, Side::Panel, &[1; 32]));
    }
}

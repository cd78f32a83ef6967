//! How often somebody may try to sign in. It forgets when the panel starts anew.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

pub use model::throttle::{Rate, Throttle, Wait, network};
use sha2::{Digest as _, Sha256};

/// One's own password, mistyped: ten at once, then one a minute. That is 1,450 guesses a day at the most.
const ACCOUNT: Rate = Rate { burst: 10, every: Duration::from_secs(60) };

/// A whole school may sit behind one address.
const ADDRESS: Rate = Rate { burst: 60, every: Duration::from_secs(10) };

/// How many accounts, and how many addresses, are remembered; about 100 bytes each.
const REMEMBERED: usize = 10_000;

/// The throttle of sign-ins: by account and by address. Refusing by account lets a stranger slow a person's sign-in down, to
/// one try a minute; refusing by address alone would let many addresses guess one password.
#[derive(Debug)]
pub struct SignIns {
    accounts: Throttle<[u8; 16]>,
    addresses: Throttle<IpAddr>,
}

impl Default for SignIns {
    fn default() -> Self {
        Self {
            accounts: Throttle::new(ACCOUNT, REMEMBERED),
            addresses: Throttle::new(ADDRESS, REMEMBERED),
        }
    }
}

impl SignIns {
    /// Counts a try, before the password is looked at. Names of nobody count as those of somebody.
    ///
    /// # Errors
    /// The account or the address has to wait.
    pub fn attempt(&mut self, account: &str, from: IpAddr, now: Instant) -> Result<(), Wait> {
        let account = account_key(account);
        self.accounts.look(&account, now)?;
        self.addresses.attempt(&network(from), now)?;
        self.accounts.attempt(&account, now)
    }

    /// A sign-in succeeded, with every factor that it needs: the account's mistakes are forgiven. The address's are not, or
    /// somebody with an account could guess at others' for ever.
    pub fn succeeded(&mut self, account: &str) {
        self.accounts.forget(&account_key(account));
    }
}

/// A short key, however long the name is that somebody sends.
fn account_key(account: &str) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::digest(account.trim().to_lowercase()).into();
    digest.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn success_forgives_the_account_and_not_the_address() {
        let begin = Instant::now();
        let mut sign_ins = SignIns::default();
        for round in 0..6 {
            for _ in 0..10 {
                sign_ins.attempt("ada", address(1), begin).unwrap();
            }
            assert_eq!(
                sign_ins.attempt("ada", address(9), begin),
                Err(Wait(60 * SECOND)),
                "{round}"
            );
            sign_ins.succeeded(" ADA ");
        }
        assert_eq!(sign_ins.attempt("ada", address(1), begin), Err(Wait(10 * SECOND)));
        assert_eq!(sign_ins.attempt("bob", address(1), begin), Err(Wait(10 * SECOND)));
        sign_ins.attempt("ada", address(2), begin).unwrap();
    }

    #[test]
    fn one_account_is_protected_from_many_addresses() {
        let begin = Instant::now();
        let mut sign_ins = SignIns::default();
        let allowed =
            (0..200).filter(|last| sign_ins.attempt("ada", address(*last), begin).is_ok());
        assert_eq!(allowed.count(), 10);
    }

    #[test]
    fn addresses_of_one_customer_count_as_one() {
        let net = |text: &str| network(text.parse().unwrap());
        assert_eq!(net("2001:db8:1:2:3:4:5:6"), net("2001:db8:1:2::"));
        assert_ne!(net("2001:db8:1:2::1"), net("2001:db8:1:3::1"));
        assert_eq!(net("::ffff:192.0.2.1"), address(1));
    }
}

//! The key in use: when it must be replaced, and what holds until it is. No I/O.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Credentials;
use super::error::CredentialError;
use super::provider::{Issued, Provider};

/// A temporary key is replaced this long before it ends, and up to [`JITTER`] sooner, or
/// after half of its life if that is later.
const LEAD: Duration = Duration::from_secs(180);
const JITTER: Duration = Duration::from_secs(10);
/// Between two attempts while there is a key that works.
const RETRY: Duration = Duration::from_secs(10);
/// Between two attempts while there is none.
const RETRY_WITHOUT: Duration = Duration::from_secs(3);
/// A refused key is not looked up again sooner than this.
pub(super) const RELOAD: Duration = Duration::from_secs(3);

/// The key in use, or why there is none.
#[derive(Default)]
pub(super) struct Held {
    key: Option<Key>,
    /// Of the last attempt.
    failure: Option<Arc<CredentialError>>,
    /// No attempt before this.
    next_try: Option<Instant>,
    /// When a refused key was last looked up again.
    asked: Option<Instant>,
}

struct Key {
    credentials: Arc<Credentials>,
    provider: Option<Provider>,
    since: Instant,
    end: Option<End>,
}

struct End {
    at: Timestamp,
    replace: Instant,
    end: Instant,
}

/// What to sign with.
#[derive(Debug)]
pub(super) enum Look {
    /// This.
    Use(Arc<Credentials>),
    /// This, and meanwhile another is to be fetched.
    Replace(Arc<Credentials>),
    /// A key must be fetched first.
    Fetch,
    /// There is none, and it is too soon to ask again.
    Fail(Arc<CredentialError>),
}

impl Held {
    pub(super) fn look(&self, now: Instant) -> Look {
        let waits = self.next_try.is_some_and(|next| now < next);
        match (&self.key, &self.failure) {
            (Some(key), _) if !key.is_over(now) => {
                let due = key.end.as_ref().is_some_and(|end| now >= end.replace);
                let credentials = Arc::clone(&key.credentials);
                if due && !waits { Look::Replace(credentials) } else { Look::Use(credentials) }
            }
            (_, Some(failure)) if waits => Look::Fail(Arc::clone(failure)),
            // Given a moment ago and over already: by whose clock, SLS will say.
            (Some(key), None) if waits => Look::Use(Arc::clone(&key.credentials)),
            _ => Look::Fetch,
        }
    }

    /// What there is now that an attempt was made.
    pub(super) fn outcome(
        &self,
        now: Instant,
    ) -> Option<Result<Arc<Credentials>, Arc<CredentialError>>> {
        match (&self.key, &self.failure) {
            (Some(key), failure) if !key.is_over(now) || failure.is_none() => {
                Some(Ok(Arc::clone(&key.credentials)))
            }
            (_, Some(failure)) => Some(Err(Arc::clone(failure))),
            _ => None,
        }
    }

    /// Whether the key is still the one that was to be replaced.
    pub(super) fn is(&self, credentials: Option<&Arc<Credentials>>) -> bool {
        self.key.as_ref().map(|key| &key.credentials) == credentials
    }

    /// SLS refused the key: whether to look for another now.
    pub(super) fn may_ask(&mut self, now: Instant) -> bool {
        if self.asked.is_some_and(|last| now.saturating_duration_since(last) < RELOAD) {
            return false;
        }
        self.asked = Some(now);
        true
    }

    /// A key was given; tells whether it is another one.
    pub(super) fn take(
        &mut self,
        provider: Option<Provider>,
        issued: Issued,
        now: Instant,
    ) -> bool {
        let before = self.key.take().filter(|key| *key.credentials == issued.credentials);
        let end = issued.expiry.and_then(|expiry| {
            let jitter = JITTER.mul_f64(fastrand::f64());
            let lead = (LEAD + jitter).min(expiry.left / 2);
            let end = now.checked_add(expiry.left)?;
            Some(End { at: expiry.at, replace: end - lead, end })
        });
        let is_new = before.is_none();
        let (credentials, since) = match before {
            Some(key) => (key.credentials, key.since),
            None => (Arc::new(issued.credentials), now),
        };
        self.key = Some(Key { credentials, provider, since, end });
        self.failure = None;
        self.next_try = Some(now + RETRY);
        is_new
    }

    /// No key was given; tells whether the old one still works.
    pub(super) fn fail(&mut self, error: CredentialError, now: Instant) -> bool {
        let works = self.key.as_ref().is_some_and(|key| !key.is_over(now));
        self.failure = Some(Arc::new(error));
        self.next_try = Some(now + if works { RETRY } else { RETRY_WITHOUT });
        works
    }

    pub(super) fn credentials(&self) -> Option<Arc<Credentials>> {
        self.key.as_ref().map(|key| Arc::clone(&key.credentials))
    }

    pub(super) fn provider(&self) -> Option<Provider> {
        self.key.as_ref()?.provider
    }

    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        Some(self.key.as_ref()?.end.as_ref()?.at)
    }

    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.key.as_ref()?.since))
    }

    pub(super) fn failure(&self) -> Option<Arc<CredentialError>> {
        self.failure.clone()
    }
}

impl Key {
    fn is_over(&self, now: Instant) -> bool {
        self.end.as_ref().is_some_and(|end| now >= end.end)
    }
}

#[cfg(test)]
mod tests {
    use super::super::provider::Expiry;
    use super::*;

    const HOURS_6: Duration = Duration::from_secs(6 * 3600);
    const SECOND: Duration = Duration::from_secs(1);

    fn issued(id: &str, left: Option<Duration>) -> Issued {
        let credentials =
            Credentials { key_id: id.into(), key_secret: "s".into(), security_token: None };
        let expiry = left.map(|left| Expiry { at: Timestamp::UNIX_EPOCH, left });
        Issued { credentials, expiry }
    }

    fn failure() -> CredentialError {
        CredentialError::Fetch { place: "there".into(), problem: "no".into(), source: None }
    }

    fn used(look: &Look) -> &str {
        match look {
            Look::Use(key) | Look::Replace(key) => &key.key_id,
            Look::Fetch | Look::Fail(_) => panic!("{look:?}"),
        }
    }

    #[test]
    fn a_temporary_key_is_replaced_three_minutes_before_it_ends() {
        for _ in 0..100 {
            let (mut held, now) = (Held::default(), Instant::now());
            assert!(matches!(held.look(now), Look::Fetch));
            assert!(held.take(None, issued("a", Some(HOURS_6)), now));
            assert!(matches!(held.look(now), Look::Use(_)));
            let soonest = now + HOURS_6 - LEAD - JITTER;
            assert!(matches!(held.look(soonest - SECOND), Look::Use(_)));
            assert!(matches!(held.look(now + HOURS_6 - LEAD), Look::Replace(_)));
        }
    }

    #[test]
    fn a_short_key_lives_half_its_life_and_the_same_again_is_not_asked_for_at_once() {
        let (mut held, now) = (Held::default(), Instant::now());
        held.take(None, issued("a", Some(60 * SECOND)), now);
        assert!(matches!(held.look(now + 29 * SECOND), Look::Use(_)));
        let later = now + 31 * SECOND;
        assert!(matches!(held.look(later), Look::Replace(_)));
        assert!(!held.take(None, issued("a", Some(12 * SECOND)), later), "the same key");
        assert!(matches!(held.look(later + 7 * SECOND), Look::Use(_)), "due, but just asked");
        assert_eq!(held.age(later), Some(31 * SECOND));
        assert!(matches!(held.look(later + RETRY), Look::Replace(_)));
    }

    #[test]
    fn the_old_key_is_used_to_its_end_while_no_other_is_given() {
        let (mut held, now) = (Held::default(), Instant::now());
        held.take(None, issued("a", Some(HOURS_6)), now);
        let (mut at, end) = (now + HOURS_6 - LEAD, now + HOURS_6);
        let mut tries = 0;
        while at < end {
            let look = held.look(at);
            assert_eq!(used(&look), "a");
            if matches!(look, Look::Replace(_)) {
                tries += 1;
                assert!(held.fail(failure(), at));
                assert_eq!(held.outcome(at).expect("a key").expect("a key").key_id, "a");
            }
            at += SECOND;
        }
        assert_eq!(tries, LEAD.as_secs() / RETRY.as_secs(), "spaced");
        assert!(matches!(held.look(end), Look::Fetch), "now a call has to wait");
        assert!(!held.fail(failure(), end));
        assert!(matches!(held.look(end + SECOND), Look::Fail(_)), "and not every call");
        assert!(held.outcome(end).expect("an outcome").is_err());
        assert!(matches!(held.look(end + RETRY_WITHOUT), Look::Fetch));
        assert!(held.take(None, issued("b", Some(HOURS_6)), end + RETRY_WITHOUT));
        assert_eq!(used(&held.look(end + RETRY_WITHOUT)), "b");
    }

    #[test]
    fn a_key_that_is_over_when_it_comes_is_left_to_sls_to_judge() {
        let (mut held, now) = (Held::default(), Instant::now());
        held.take(None, issued("a", Some(Duration::ZERO)), now);
        assert_eq!(held.outcome(now).expect("an outcome").expect("a key").key_id, "a");
        assert_eq!(used(&held.look(now + SECOND)), "a");
        assert!(matches!(held.look(now + RETRY), Look::Fetch), "and asked for again in time");
    }

    #[test]
    fn a_key_without_an_end_stays() {
        let (mut held, now) = (Held::default(), Instant::now());
        held.take(None, issued("a", None), now);
        assert!(matches!(held.look(now + 10_000 * HOURS_6), Look::Use(_)));
        held.take(None, issued("b", Some(Duration::MAX)), now);
        assert!(matches!(held.look(now + HOURS_6), Look::Use(_)), "an end beyond all clocks");
    }
}

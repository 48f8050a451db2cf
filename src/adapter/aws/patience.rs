//! How long calls are repeated: generously where AWS answers that there were too many, and only for
//! some seconds where nothing answers at all.
//!
//! The SDK's adaptive mode would slow every call down to one in two seconds after a few answers of that
//! kind, and give back speed only slowly; its standard mode gives a call up after the few repetitions that
//! its budget allows to all calls together. CloudFormation allows an account a few calls a second, and ten
//! stacks are worked on at once: so calls are repeated often, with growing pauses, on a larger budget.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::answers::{self, NotWhole};
use aws_config::retry::RetryConfig;
use aws_sdk_cloudformation::config::interceptors::InterceptorContext;
use aws_sdk_cloudformation::config::retry::{ClassifyRetry, RetryAction, RetryPartition, TokenBucket};

/// How often a call is made at most.
const ATTEMPTS: u32 = 10;
/// The longest pause before a call is made again; they grow from under a second.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long calls are repeated while nothing answers.
const SILENCE_MOST: Duration = Duration::from_secs(8);
/// What all calls together may be repeated without any going well in between (a repetition costs 5).
const BUDGET: usize = 500;
/// What comes back to the budget in a second.
const BUDGET_PER_SECOND: f32 = 50.0;

/// The SDK's part of it.
pub fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(ATTEMPTS).with_max_backoff(LONGEST_PAUSE)
}

/// The budget of the service called `name`.
pub fn budget(name: &'static str) -> RetryPartition {
    let bucket = TokenBucket::builder().capacity(BUDGET).refill_rate(BUDGET_PER_SECOND).build();
    RetryPartition::custom(name).token_bucket(bucket).build()
}

/// Ends repetitions once nothing has answered for a while; shared by all clients of an account.
#[derive(Debug, Clone, Default)]
pub struct Patience {
    /// Since when nothing has answered.
    silent: Arc<Mutex<Option<Instant>>>,
}

impl Patience {
    /// Whether a call that got no answer at `now` is not to be repeated.
    fn is_over(&self, answered: bool, now: Instant) -> bool {
        let Ok(mut silent) = self.silent.lock() else { return false };
        if answered {
            *silent = None;
            return false;
        }
        now.duration_since(*silent.get_or_insert(now)) >= SILENCE_MOST
    }
}

impl ClassifyRetry for Patience {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        // An answer that ends in the middle says nothing of what was asked: it is asked for again.
        if matches!(context.output_or_error(), Some(Err(error)) if error.is_interceptor_error()) {
            let body = context.response().and_then(|response| response.body().bytes());
            return match body.map(answers::whole) {
                Some(Err(NotWhole::Cut(_))) => RetryAction::transient_error(),
                // One that lacks something would lack it again.
                Some(Ok(()) | Err(NotWhole::Lacks(_))) | None => RetryAction::RetryForbidden,
            };
        }
        let silent = match context.output_or_error() {
            Some(Err(error)) => error.is_connector_error() || error.is_timeout_error(),
            Some(Ok(_)) | None => false,
        };
        match self.is_over(!silent, Instant::now()) {
            true => RetryAction::RetryForbidden,
            false => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "patience"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_borne_for_a_while_and_an_answer_ends_it() {
        let patience = Patience::default();
        let begun = Instant::now();
        let after = |seconds: u64| begun + Duration::from_secs(seconds);
        assert!(!patience.is_over(false, begun));
        assert!(!patience.clone().is_over(false, after(7)));
        assert!(patience.is_over(false, after(8)));
        assert!(!patience.is_over(true, after(9)));
        assert!(!patience.is_over(false, after(20)));
    }
}

//! One attempt: from a claimed row to its outcome, over the channel that its destination wants.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::answer::{self, Verdict};
use super::destinations::nats::{Event, event};
use super::destinations::workflow_engine;
use super::door::Sign;
use super::lanes::Known;
use super::outcome::{self, Context, Silence};
use super::publish::publish;
use super::record::record_answer;
use super::send::{Request, SendError, Sender};
use crate::model::delivery::{Attempt, Completion, Outcome, Record};
use crate::model::destination::Kind;
use crate::model::ids::WorkerId;

/// The ways out of the house.
#[derive(Clone)]
pub struct Channels {
    /// HTTP.
    pub http: Sender,
    /// JetStream, if the service has a broker, and the prefix of its subjects.
    pub broker: Option<(jetstream::Context, Arc<str>)>,
}

/// How an attempt is started.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// Who claimed it.
    pub claimed_by: WorkerId,
    /// From then on anybody may take it over.
    pub leased_until: Instant,
    /// It ends by then.
    pub deadline: Instant,
    /// It is to find out whether the destination may be used again.
    pub probe: bool,
}

/// An attempt that ended, with what it says of its destination.
#[derive(Debug)]
pub struct Ended {
    /// For the record.
    pub completion: Completion,
    /// What it says of the destination as a whole.
    pub sign: Sign,
    /// How it was started.
    pub start: Start,
    /// The random number of its waits, in 0..1.
    pub chance: f64,
    /// Since it was first owed.
    pub owed: Duration,
}

impl Ended {
    /// Whether nobody else can have taken its row over yet.
    pub fn is_held_by(&self, worker: Option<WorkerId>) -> bool {
        worker == Some(self.start.claimed_by) && Instant::now() < self.start.leased_until
    }
}

enum Parcel {
    Http(Request),
    Event(jetstream::Context, Event),
}

enum Failure {
    Settings(String),
    Send(SendError),
}

/// Makes one attempt.
pub async fn deliver(
    channels: Arc<Channels>,
    known: Arc<Known>,
    mut attempt: Attempt,
    start: Start,
) -> Ended {
    let started = Instant::now();
    let mut record = Record {
        started_at: Timestamp::now(),
        finished_at: Timestamp::now(),
        status_code: None,
        error: None,
        warning: None,
        answer: None,
        body_sha256: Sha256::digest(attempt.body.as_bytes()).into(),
        external_id: None,
    };
    let result = match parcel(&channels, &known, &mut attempt, start.deadline) {
        Ok(Parcel::Http(request)) => channels.http.send(request).await.map(Some).map_err(Failure::Send),
        // Boxed: it is larger than all else, and requests are many.
        Ok(Parcel::Event(broker, event)) => match Box::pin(publish(&broker, event, start.deadline)).await {
            Ok(stored) => {
                record.external_id = Some(stored.external_id);
                record.warning = stored.duplicate.then(|| "the broker had it already".to_owned());
                Ok(None)
            }
            Err(error) => Err(Failure::Send(error)),
        },
        Err(problem) => Err(Failure::Settings(problem)),
    };
    record.finished_at = Timestamp::now();
    let owed = attempt.age + started.elapsed();
    let chance = chance();
    let context = Context {
        policy: &known.policy,
        attempt: attempt.number,
        owed: owed.saturating_sub(attempt.held),
        chance,
        silence: silence(&known),
        hold: known.hold,
    };
    let (outcome, sign) = match result {
        Ok(Some(answer)) => {
            let verdict = answer::read(answer.status, answer.retry_after.as_deref(), record.finished_at);
            let outcome = outcome::of_answer(&verdict, answer.status, context);
            record_answer(&mut record, &known, &verdict, &answer);
            (outcome, sign(&verdict, answer.status))
        }
        Ok(None) => (Outcome::Delivered, Sign::Accepted),
        Err(Failure::Send(error)) => {
            record.error = Some(error.to_string());
            (outcome::of_error(&error, context), sign_of_none(&error))
        }
        Err(Failure::Settings(problem)) => {
            record.error = Some(problem.clone());
            // Whatever is sent there meets the same.
            (Outcome::Hold { after: Duration::ZERO }, Sign::Hold(problem))
        }
    };
    let Attempt { notification, tenant, destination, number, .. } = attempt;
    let completion = Completion { notification, tenant, destination, number, outcome, record };
    Ended { completion, sign, start, chance, owed }
}

fn parcel(
    channels: &Channels,
    known: &Known,
    attempt: &mut Attempt,
    deadline: Instant,
) -> Result<Parcel, String> {
    let Some(target) = known.target.as_ref().map_err(Clone::clone)? else {
        let broker = channels.broker.as_ref();
        let (broker, prefix) =
            broker.ok_or("the destination is an event on NATS, and nats.url is not set")?;
        let event = event(prefix, &known.tenant, attempt.notification, &attempt.body);
        return Ok(Parcel::Event(broker.clone(), event));
    };
    let body = std::mem::take(&mut attempt.body).into_bytes();
    let signed = matches!(known.kind, Ok(Kind::WorkflowEngine { .. }));
    let signature = match known.secret.as_ref().ok().and_then(Option::as_ref) {
        Some(secret) if signed => Some(workflow_engine::signature(secret, &body)?),
        _ => None,
    };
    let request = target.request(body, deadline);
    Ok(Parcel::Http(match signature {
        Some((name, value)) => request.with_header(name, value),
        None => request,
    }))
}

fn silence(known: &Known) -> Silence {
    match known.kind {
        Ok(Kind::WorkflowEngine { repeat_ambiguous: true, .. }) => Silence::AmbiguousRepeat,
        Ok(Kind::WorkflowEngine { repeat_ambiguous: false, .. }) => Silence::AmbiguousEnd,
        Ok(Kind::Hub { .. } | Kind::Nats {}) | Err(_) => Silence::Repeat,
    }
}

fn sign(verdict: &Verdict, status: u16) -> Sign {
    match verdict {
        Verdict::Delivered => Sign::Accepted,
        Verdict::Dead => Sign::Refused,
        Verdict::Retry { not_before: Some(asked) } if status == 429 => Sign::Busy(*asked),
        Verdict::Retry { not_before } => Sign::Sick(format!("it answered {status}"), *not_before),
        Verdict::Hold => Sign::Hold(format!("it answered {status}")),
        Verdict::Park => Sign::Park(format!("it answered {status}")),
    }
}

fn sign_of_none(error: &SendError) -> Sign {
    match error {
        SendError::TooLate => Sign::Nothing,
        error => Sign::Sick(error.to_string(), None),
    }
}

/// A random number in 0..1, for jitter: it need not be secret, and it is drawn for every attempt. The standard library's hash maps are
/// seeded alike, without asking the system each time.
fn chance() -> f64 {
    (RandomState::new().hash_one(()) >> 11) as f64 / (1_u64 << 53) as f64
}

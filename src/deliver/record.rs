//! What of an answer goes on the record: legible, bounded, and without the secret that the request carried. Pure.

use secrecy::ExposeSecret;

use super::answer::Verdict;
use super::destinations::{hub, workflow_engine};
use super::lanes::Known;
use super::send::{ANSWER_KEPT, Answer};
use crate::model::delivery::Record;
use crate::model::destination::Kind;

/// Stands where a secret stood.
const BLOT: &str = "[secret]";
/// So many characters at the end of an answer may be the secret's first ones, or not.
const HARMLESS: usize = 3;

/// Puts an answer on an attempt's record.
pub fn record_answer(record: &mut Record, known: &Known, verdict: &Verdict, answer: &Answer) {
    record.status_code = Some(answer.status);
    let secret = known.secret.as_ref().ok().and_then(Option::as_ref);
    record.answer =
        Some(without_secret(legible(&answer.body), secret.map_or("", ExposeSecret::expose_secret)));
    match (verdict, &known.kind) {
        (Verdict::Delivered, Ok(Kind::Hub { .. })) => record.warning = hub::warning(answer),
        (Verdict::Delivered, Ok(Kind::WorkflowEngine { .. })) => {
            record.external_id = workflow_engine::execution_id(answer).map(|id| legible(id.as_bytes()));
            if record.external_id.is_none() {
                record.warning = Some("the engine accepted it, but its answer names no execution".to_owned());
            }
        }
        (Verdict::Delivered, _) => {}
        _ => record.error = Some(format!("answered {}", answer.status)),
    }
}

/// PostgreSQL's text can't hold NUL, and an answer can hold anything: what is no text becomes U+FFFD, which is longer.
fn legible(body: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(body).replace('\0', "\u{fffd}");
    text.truncate(text.floor_char_boundary(ANSWER_KEPT));
    text
}

/// A receiver may repeat what it was sent, and what is on the record is shown: the secret is blotted out, also where the
/// answer was cut off within it.
fn without_secret(text: String, secret: &str) -> String {
    if secret.is_empty() {
        return text;
    }
    let mut text = text.replace(secret, BLOT);
    let beginnings = secret.char_indices().map(|(end, _)| &secret[..end]).rev();
    if let Some(beginning) = beginnings.filter(|b| b.len() > HARMLESS).find(|b| text.ends_with(b)) {
        text.truncate(text.len() - beginning.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_replaced_and_what_is_too_long_is_cut() {
        assert_eq!(legible(b"a\0b\xffc"), "a\u{fffd}b\u{fffd}c");
        assert_eq!(legible(&[0xff; ANSWER_KEPT]).len(), ANSWER_KEPT - 1);
    }

    #[test]
    fn a_secret_is_blotted_out_also_where_the_answer_was_cut_off_within_it() {
        let without = |text: &str| without_secret(text.to_owned(), "hush-hush");
        assert_eq!(without("hush-hush and hush-hush."), "[secret] and [secret].");
        assert_eq!(without("the key hush-hus"), "the key ");
        assert_eq!(without("nothing here"), "nothing here");
        assert_eq!(without_secret("nothing".to_owned(), ""), "nothing");
    }
}

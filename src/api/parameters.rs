//! What a request asks for in its address: filters, pages, ids.
//!
//! Invariant: a parameter that is unknown, comes twice or can't be used is an error that names it; nothing that
//! somebody asked for is silently left out.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use uuid::Uuid;

use super::problem::Problem;

const DEFAULT_LIMIT: i64 = 100;
const MOST_ROWS: i64 = 1000;

/// The parameters behind the question mark.
#[derive(Debug)]
pub struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        query
            .map(|Query(pairs)| Self(pairs))
            .map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))
    }
}

impl Parameters {
    /// Refuses parameters other than `known`, and those that come twice, are empty or hold a NUL, which PostgreSQL's
    /// text can't.
    ///
    /// # Errors
    /// 400 that names the first of them.
    pub fn only(self, known: &[&str]) -> Result<Self, Problem> {
        for (index, (name, value)) in self.0.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                return Err(Problem::unusable_parameter(name, "is no parameter", known));
            }
            if self.0[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(Problem::unusable_parameter(name, "comes twice", known));
            }
            if value.is_empty() || value.contains('\0') {
                return Err(Problem::bad_parameter(name, "a text that is not empty and holds no NUL"));
            }
        }
        Ok(self)
    }

    /// A text, if it was given.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(ToOwned::to_owned)
    }

    /// One of these texts, if it was given.
    ///
    /// # Errors
    /// 400 that lists them.
    pub fn choice(&self, name: &str, allowed: &[&str]) -> Result<Option<String>, Problem> {
        match self.get(name) {
            Some(value) if !allowed.contains(&value) => {
                Err(Problem::bad_parameter(name, &format!("one of {}", allowed.join(", "))))
            }
            value => Ok(value.map(ToOwned::to_owned)),
        }
    }

    /// An id, if it was given.
    ///
    /// # Errors
    /// 400 if it is no UUID.
    pub fn id(&self, name: &str) -> Result<Option<Uuid>, Problem> {
        self.get(name).map(|text| parse_id(name, text)).transpose()
    }

    /// The page that is asked for: `limit` and `before`.
    ///
    /// # Errors
    /// 400 if one of them can't be used.
    pub fn page(&self) -> Result<PageRequest, Problem> {
        let limit = match self.get("limit") {
            None => DEFAULT_LIMIT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=MOST_ROWS).contains(limit))
                .ok_or_else(|| Problem::bad_parameter("limit", "a whole number from 1 to 1000"))?,
        };
        Ok(PageRequest { limit, before: self.id("before")? })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

/// Which rows: the newest first, from behind a known one on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// Rows at most.
    pub limit: i64,
    /// Only rows older than the one with this id.
    pub before: Option<Uuid>,
}

impl PageRequest {
    /// The newest rows.
    pub fn newest(limit: i64) -> Self {
        Self { limit, before: None }
    }

    /// How many rows to ask the database for: one more than is shown, which tells whether there are more.
    pub fn rows_to_fetch(&self) -> i64 {
        self.limit + 1
    }

    /// Cuts off the row too many. `next` is what `before` must be to go on, if there is more.
    pub fn cut<T>(&self, mut rows: Vec<T>, id: impl Fn(&T) -> Uuid) -> Page<T> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(id);
        Page { rows, next }
    }
}

/// Rows, the newest first.
#[derive(Debug)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// The id of the last one, if there are older ones.
    pub next: Option<Uuid>,
}

/// The id in the path `/../{id}`.
#[derive(Debug)]
pub struct PathId(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Ok(Path(text)) = Path::<String>::from_request_parts(parts, state).await else {
            return Err(Problem::bad_parameter("id", "a UUID"));
        };
        parse_id("id", &text).map(Self)
    }
}

fn parse_id(name: &str, text: &str) -> Result<Uuid, Problem> {
    // The hyphenated form only: a thing has one address.
    Some(text)
        .filter(|text| text.len() == 36)
        .and_then(|text| Uuid::parse_str(text).ok())
        .ok_or_else(|| Problem::bad_parameter(name, "a UUID"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(pairs: &[(&str, &str)]) -> Parameters {
        Parameters(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn what_is_unknown_doubled_or_empty_is_refused() {
        for pairs in
            [&[("stat", "x")][..], &[("state", "x"), ("state", "x")], &[("state", "")], &[("state", "a\0b")]]
        {
            assert_eq!(parameters(pairs).only(&["state"]).unwrap_err().status(), 400, "{pairs:?}");
        }
        assert!(parameters(&[("state", "x")]).only(&["state"]).is_ok());
    }

    #[test]
    fn a_limit_is_from_one_to_a_thousand() {
        assert_eq!(parameters(&[]).page().unwrap(), PageRequest { limit: 100, before: None });
        for good in ["1", "1000"] {
            assert!(parameters(&[("limit", good)]).page().is_ok(), "{good}");
        }
        for bad in ["0", "1001", "-1", "x", "1.5", "99999999999999999999"] {
            assert!(parameters(&[("limit", bad)]).page().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_row_too_many_says_that_there_is_more() {
        let ids: Vec<Uuid> = (0..3).map(Uuid::from_u128).collect();
        let page = PageRequest::newest(2).cut(ids.clone(), |id| *id);
        assert_eq!((page.rows.len(), page.next), (2, Some(ids[1])));
        let page = PageRequest::newest(3).cut(ids, |id| *id);
        assert_eq!((page.rows.len(), page.next), (3, None));
    }

    #[test]
    fn an_id_is_a_uuid_with_hyphens() {
        assert!(parse_id("id", "0192f0c1-7e0f-7000-8000-000000000000").is_ok());
        for bad in ["", "1", "0192f0c17e0f70008000000000000000", "0192f0c1-7e0f-7000-8000-00000000000g"] {
            assert!(parse_id("id", bad).is_err(), "{bad}");
        }
    }
}

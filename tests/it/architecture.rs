//! The imports run one way: a room imports only rooms below it; what is pure stays pure.
//!
//! The source is read as text, without comments and strings: every path that starts with `crate::`, with `watchbell::`
//! in `main.rs`, or with `super::` that leaves its room, in `use` lines and elsewhere.

use std::path::{Path, PathBuf};

/// The rooms of design §3, from the top of the house.
const ROOMS: [&str; 16] = [
    "cli",
    "runtime",
    "console",
    "api",
    "audit",
    "deliver",
    "detect",
    "ingest",
    "outbox",
    "notice",
    "model",
    "db",
    "config",
    "retry",
    "telemetry",
    "dev",
];

/// These take values and give values.
const PURE: [&str; 5] = ["model/", "notice/", "detect/conditions.rs", "detect/cooldown.rs", "retry.rs"];

/// What does I/O, or is for it.
const IO: [&str; 10] = [
    "tokio",
    "tokio_postgres",
    "deadpool_postgres",
    "async_nats",
    "reqwest",
    "hyper_util",
    "axum",
    "std::fs",
    "std::net",
    "std::process",
];

struct Source {
    /// From `src/`.
    name: String,
    /// Without comments and strings.
    code: String,
}

fn sources() -> Vec<Source> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    paths.sort();
    let source = |path: PathBuf| Source {
        name: path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(),
        code: code_of(&std::fs::read_to_string(&path).unwrap()),
    };
    paths.into_iter().map(source).collect()
}

/// The text without comments, strings and character literals.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_word = code.ends_with(|last: char| last.is_alphanumeric() || last == '_');
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if !after_word && let Some(length) = raw_string(rest) {
            length
        } else if first == '"' {
            string(rest)
        } else if let Some(length) = character(rest) {
            length
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[skipped..];
    }
    code
}

/// The length of `r"..."`, `r#"..."#`, `br".."` at the start.
fn raw_string(text: &str) -> Option<usize> {
    let body = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let inside = body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inside.find(&end)?;
    Some(text.len() - inside.len() + length + end.len())
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of `'x'` or `'\n'` at the start; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let escape = inside.starts_with('\\');
    let end = inside.char_indices().skip(if escape { 2 } else { 1 }).find(|(_, c)| *c == '\'')?.0;
    (escape || inside[..end].chars().count() == 1).then_some(end + 2)
}

/// The names that follow a path's start: `a` of `a::b`, `a` and `b` of `{a::{c, d}, b as e}`.
fn heads(after: &str) -> Vec<String> {
    let after = after.trim_start();
    let ident = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = after.strip_prefix('{') else { return vec![ident(after)] };
    let (mut names, mut depth, mut starts) = (Vec::new(), 0, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => starts = true,
            c if starts && !c.is_whitespace() => {
                names.push(ident(&group[at..]));
                starts = false;
            }
            _ => {}
        }
    }
    names
}

/// Where `word` stands as a whole word.
fn places<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let (before, after) = (&code[..*at], &code[at + word.len()..]);
        !before.ends_with(in_word) && !after.starts_with(in_word)
    })
}

/// The rooms that a source names.
fn imports(source: &Source) -> Vec<String> {
    let code = &source.code;
    let mut rooms = Vec::new();
    for root in ["crate", "watchbell"] {
        for at in places(code, root) {
            if let Some(after) = code[at + root.len()..].trim_start().strip_prefix("::") {
                rooms.extend(heads(after));
            }
        }
    }
    // `src/a/b.rs` is the module `a::b`: its second `super` is the whole house. Its inline modules are one deeper.
    let depth = source.name.trim_end_matches("/mod.rs").split('/').count();
    let inline = places(code, "mod tests").find(|at| code[at + 9..].trim_start().starts_with('{'));
    for at in places(code, "super") {
        let mut rest = code[at + 5..].trim_start();
        let (mut supers, is_first) = (1, !code[..at].trim_end().ends_with("super::"));
        while let Some(next) =
            rest.strip_prefix("::").map(str::trim_start).and_then(|r| r.strip_prefix("super"))
        {
            (supers, rest) = (supers + 1, next.trim_start());
        }
        let deep = depth + usize::from(inline.is_some_and(|inline| inline < at));
        if is_first
            && supers >= deep
            && let Some(after) = rest.strip_prefix("::")
        {
            rooms.extend(heads(after));
        }
    }
    rooms
}

fn floor(room: &str) -> Option<usize> {
    ROOMS.iter().position(|known| *known == room)
}

#[test]
fn a_room_imports_only_rooms_below_it() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for source in sources() {
        let room = source.name.split('/').next().unwrap().trim_end_matches(".rs");
        let own = match room {
            "main" | "lib" => None,
            room => Some(floor(room).unwrap_or_else(|| panic!("{room} is no room of the house"))),
        };
        for import in imports(&source) {
            match floor(&import) {
                Some(below) if own.is_none_or(|own| below >= own) => seen += 1,
                Some(_) => wrong.push(format!("src/{} imports {import}, which is above it", source.name)),
                None => wrong.push(format!("src/{} imports {import}, which is no room", source.name)),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 100, "only {seen} imports were found: this test reads something else than the source");
}

#[test]
fn the_map_of_the_house_lists_the_rooms_in_their_order() {
    let sources = sources();
    let map = &sources.iter().find(|source| source.name == "lib.rs").unwrap().code;
    let listed: Vec<_> = map.split("pub mod ").skip(1).map(|rest| rest.split(';').next().unwrap()).collect();
    assert_eq!(listed, ROOMS);
}

#[test]
fn only_the_retry_schedule_knows_the_crate_backoff() {
    for source in sources().iter().filter(|source| source.name != "retry.rs") {
        for at in places(&source.code, "backoff") {
            let after = source.code[at + "backoff".len()..].trim_start();
            assert!(!after.starts_with("::"), "src/{} uses the crate backoff", source.name);
        }
    }
}

#[test]
fn what_is_pure_does_no_input_and_output() {
    let pure = |source: &&Source| PURE.iter().any(|pure| source.name.starts_with(pure));
    let sources = sources();
    assert!(sources.iter().filter(pure).count() > 10);
    for source in sources.iter().filter(pure) {
        for name in IO {
            let used = places(&source.code, name).next().is_some();
            assert!(!used, "src/{} uses {name}", source.name);
        }
    }
}

#[test]
fn the_reader_of_the_source_sees_every_kind_of_import() {
    let code = code_of(
        "use crate::{detect::{a, b}, model::c as d}; // crate::cli\n\
         fn f<'a>() { crate::ingest::g('\"', \"crate::api\", r#\"crate::audit\"#); super::super::outbox::h() }\n\
         use super::{own, other}; /* crate::dev */ use crate\n::db::x;",
    );
    let source = Source { name: "notice/deep.rs".to_owned(), code };
    assert_eq!(imports(&source), ["detect", "model", "ingest", "db", "outbox"]);
}

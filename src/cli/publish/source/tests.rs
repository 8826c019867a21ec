//! What files look like, and what becomes of them.

use std::io::Cursor;

use super::*;
use crate::cli::publish::draft::exact;
use crate::ingest::validate::Window;
use crate::model::reading::UnixMicros;

const ALWAYS: Window = Window { from: UnixMicros(0), until: UnixMicros(i64::MAX) };

fn filled() -> Fill {
    Fill { device: Some("m-1".to_owned()), metric: Some("temperature".to_owned()), unit: None }
}

/// `line: json` or `line: reason` of every row.
fn rows(text: &str, format: Format, fill: Fill) -> Vec<String> {
    let mut source = Source::open(Cursor::new(text.as_bytes()), format, fill).unwrap();
    let mut found = Vec::new();
    while let Some(rows) = source.next_rows().unwrap() {
        for Row { line, draft } in rows {
            let said = draft.and_then(|draft| draft.finish(None, ALWAYS));
            found.push(match said {
                Ok((json, _)) => format!("{line}: {json}"),
                Err(refusal) => format!("{line}: {}", refusal.reason.as_str()),
            });
        }
    }
    assert_eq!(source.bytes(), text.len() as u64);
    found
}

fn problem(text: &str, fill: Fill) -> String {
    match Source::open(Cursor::new(text.as_bytes()), Format::Csv, fill) {
        Ok(_) => String::new(),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn a_table_of_two_columns_is_filled_up() {
    let text = "timestamp,value\n2013-12-02 21:15:00,73.96732207\n2013-12-02 21:20:00,74.93588199999998\n";
    assert_eq!(
        rows(text, Format::Csv, filled()),
        [
            r#"2: {"device":"m-1","metric":"temperature","value":73.96732207,"ts":"2013-12-02T21:15:00Z"}"#,
            r#"3: {"device":"m-1","metric":"temperature","value":74.93588199999998,"ts":"2013-12-02T21:20:00Z"}"#,
        ]
    );
}

#[test]
fn columns_come_in_any_order_and_their_cells_win() {
    let text =
        "\u{feff}Value, device ,ts,unit,other\r\n1,\"a \"\"b\"\"\",1386018900,°C,x\r\n2,,1386018901,,\r\n";
    assert_eq!(
        rows(text, Format::Csv, filled()),
        [
            r#"2: {"device":"a \"b\"","metric":"temperature","value":1.0,"unit":"°C","ts":1386018900}"#,
            r#"3: {"device":"m-1","metric":"temperature","value":2.0,"ts":1386018901}"#,
        ]
    );
}

#[test]
fn bad_lines_of_a_table_are_refused_one_by_one() {
    let text = "ts,value\n1386018900,abc\n1386018900,NaN\nnever,1\n1386018900\n1386018900,5\n";
    assert_eq!(
        rows(text, Format::Csv, filled()),
        [
            "2: not_a_reading",
            "3: not_finite",
            "4: bad_time",
            "5: not_a_reading",
            r#"6: {"device":"m-1","metric":"temperature","value":5.0,"ts":1386018900}"#,
        ]
    );
}

#[test]
fn what_a_table_lacks_is_said_with_the_columns_that_were_found() {
    assert!(
        problem("when,value\n", filled())
            .contains("`timestamp`, `ts` or `time`; the columns are: when, value")
    );
    assert!(problem("ts,reading\n", filled()).contains("`value`; the columns are: ts, reading"));
    assert!(problem("", filled()).contains("the columns are: none"));
    assert!(problem("ts,value\n", Fill::default()).contains("--device"));
    assert!(problem("ts,value,device\n", Fill::default()).contains("--metric"));
    assert_eq!(problem("ts,value,device,metric\n", Fill::default()), "");
}

#[test]
fn json_lines_are_objects_or_arrays_with_gaps() {
    let text = r#"{"value":1.50,"ts":"2013-12-02 21:15:00"}

[{"device":"b","metric":"p","value":1,"ts":null,"unit":"bar"},7,{"value":"x"}]
not json
{"device":"","value":1}
"#;
    assert_eq!(
        rows(text, Format::Ndjson, filled()),
        [
            r#"1: {"device":"m-1","metric":"temperature","value":1.50,"ts":"2013-12-02T21:15:00Z"}"#,
            r#"3: {"device":"b","metric":"p","value":1,"unit":"bar"}"#,
            "3: not_a_reading",
            "3: not_a_reading",
            "4: not_json",
            "5: bad_text",
        ]
    );
    assert_eq!(rows(r#"{"value":1}"#, Format::Ndjson, Fill::default()), ["1: not_a_reading"]);
}

#[test]
fn a_line_without_an_end_is_refused_and_the_next_one_read() {
    let text = format!("{}\n{{\"value\":2}}\n", "x".repeat(3 * LINE_MAX));
    let found = rows(&text, Format::Ndjson, filled());
    assert_eq!(found, ["1: not_a_reading", r#"2: {"device":"m-1","metric":"temperature","value":2}"#]);
}

#[test]
fn a_name_says_the_format() {
    for (name, format) in [
        ("a.csv", Some(Format::Csv)),
        ("a.b.JSONL", Some(Format::Ndjson)),
        ("a.ndjson", Some(Format::Ndjson)),
        ("csv", None),
        ("a.txt", None),
    ] {
        assert_eq!(Format::of_name(name), format, "{name}");
    }
    assert_eq!(exact(UnixMicros(1)), "1970-01-01T00:00:00.000001Z");
}

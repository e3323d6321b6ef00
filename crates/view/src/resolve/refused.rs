//! Functions that have no rule, and what to write in their place.

/// Names, and what to write.
const INSTEAD: &[(&[&str], &str)] = &[
    (
        &["array_agg", "json_agg", "jsonb_agg", "json_group_array", "listagg", "array_to_string"],
        "write string_agg(x, ', ' ORDER BY x)",
    ),
    (
        &["json_object_agg", "jsonb_object_agg", "json_group_object"],
        "feeds carry rows as JSON: keep one row for each key",
    ),
    (
        &[
            "json_object",
            "json_array",
            "json_build_object",
            "jsonb_build_object",
            "to_json",
            "to_jsonb",
            "row_to_json",
        ],
        "feeds carry rows as JSON: select the columns",
    ),
    (
        &[
            "stddev",
            "stddev_pop",
            "stddev_samp",
            "variance",
            "var_pop",
            "var_samp",
            "corr",
            "covar_pop",
            "regr_slope",
        ],
        "keep count(x), sum(x) and sum(x * x), and calculate it where the view is read",
    ),
    (
        &["median", "mode", "percentile_cont", "percentile_disc"],
        "number the rows by ORDER BY in a window, and select the middle one",
    ),
    (&["total"], "write coalesce(sum(x), 0)"),
    (&["any_value"], "write min(x)"),
    (&["approx_distinct", "approx_count_distinct"], "write count(DISTINCT x), which is kept by changes"),
    (
        &[
            "exp", "ln", "log", "log10", "log2", "sin", "cos", "tan", "asin", "acos", "atan", "atan2",
            "degrees", "radians", "pi", "cbrt",
        ],
        "its last digits differ between databases: calculate it where the view is read",
    ),
    (
        &["md5", "sha1", "sha256", "digest", "crc32", "encode", "decode", "hex", "unhex"],
        "store the result in a column of the source",
    ),
    (
        &["regexp_replace", "regexp_match", "regexp_matches", "regexp_like", "regexp_substr", "similar"],
        "databases differ in patterns: write LIKE, or substr with instr",
    ),
    (&["split_part", "string_to_array", "substring_index"], "write substr with instr"),
    (
        &[
            "initcap",
            "reverse",
            "repeat",
            "translate",
            "overlay",
            "format",
            "printf",
            "chr",
            "char",
            "ascii",
            "unicode",
            "quote",
            "soundex",
        ],
        "store the result in a column of the source",
    ),
    (
        &["age", "datediff", "timestampdiff", "julianday"],
        "write date(a) - date(b) for days, or extract(epoch FROM a) - extract(epoch FROM b) for seconds",
    ),
    (
        &["date_add", "dateadd", "date_sub", "adddate", "make_interval", "datetime", "time"],
        "write column + interval '1' day, or column + n * interval '1' hour",
    ),
    (
        &["to_date", "to_timestamp", "make_date", "str_to_date", "parse_timestamp"],
        "dates and times are text in ISO form: compare the text itself, or with date '2024-01-31'",
    ),
    (
        &[
            "year",
            "month",
            "day",
            "hour",
            "minute",
            "second",
            "quarter",
            "week",
            "dayofweek",
            "dayofyear",
            "weekday",
        ],
        "write extract(year FROM column)",
    ),
    (&["date_format", "format_date"], "write strftime('%Y-%m', column) or to_char(column, 'YYYY-MM')"),
    (&["date_bin", "time_bucket"], "write date_trunc('hour', column), or extract(epoch FROM column) / 300"),
    (
        &[
            "unnest",
            "generate_series",
            "json_each",
            "jsonb_array_elements",
            "json_array_elements",
            "regexp_split_to_table",
        ],
        "it makes rows: capture them as a relation of their own",
    ),
    (&["nvl", "isnull"], "write coalesce(x, y)"),
    (&["if"], "write CASE WHEN condition THEN x ELSE y END"),
    (&["len"], "write length(x)"),
    (&["locate", "charindex"], "write strpos(text, part)"),
    (&["ucase", "lcase"], "write upper(x) or lower(x)"),
    (
        &["to_number", "try_cast", "safe_cast"],
        "write CAST(x AS INTEGER) or CAST(x AS REAL): what is no number is 0",
    ),
    (&["typeof", "pg_typeof"], "the type of a column is that of its relation"),
    (
        &[
            "json_extract",
            "json_value",
            "json_query",
            "jsonb_path_query",
            "jsonb_path_query_first",
            "json_extract_path_text",
            "jsonb_extract_path_text",
            "jsonb_extract_path",
        ],
        "write document ->> 'key', or document -> 'key' ->> 'other'",
    ),
    (
        &["json_type", "jsonb_typeof", "json_valid", "jsonb_exists", "json_contains"],
        "write document -> 'key' IS NOT NULL, or compare document ->> 'key'",
    ),
    (&["grouping", "rollup", "cube"], "make one view for each grouping"),
    (&["width_bucket", "gcd", "lcm", "factorial"], "write it with +, -, *, / and %"),
    (
        &[
            "current_user",
            "session_user",
            "user",
            "current_schema",
            "version",
            "pg_backend_pid",
            "last_insert_rowid",
            "changes",
            "nextval",
            "currval",
        ],
        "a view depends on rows alone: store the value in a column",
    ),
];

/// What to write in place of a function that is known elsewhere.
pub(super) fn instead_of(name: &str) -> Option<&'static str> {
    INSTEAD.iter().find(|(names, _)| names.contains(&name)).map(|(_, instead)| *instead)
}

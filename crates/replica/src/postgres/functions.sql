-- Functions of the writer. PLANS and LOCK stand for expressions.

-- How a transaction begins: one writer's at a time. False where another has taken the replica over, which a statement of its own
-- sees: the lock may have been waited for.
CREATE OR REPLACE FUNCTION __deltamesh_begin(token text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM PLANS;
    PERFORM LOCK;
    RETURN (SELECT value = token FROM __deltamesh_meta WHERE name = 'writer');
END
$$;

-- Stores where a source stands.
CREATE OR REPLACE FUNCTION __deltamesh_checkpoint(text, text, bigint, bigint, bigint, bigint, bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO __deltamesh_checkpoint VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (source) DO UPDATE
        SET (incarnation, ordinal, engine_sequence, engine_log, engine_offset, stream_sequence)
        = (excluded.incarnation, excluded.ordinal, excluded.engine_sequence, excluded.engine_log,
           excluded.engine_offset, excluded.stream_sequence);
END
$$;

-- Marks the last change of a transaction.
CREATE OR REPLACE FUNCTION __deltamesh_end(last bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE __deltamesh_changes SET tx_end = 1 WHERE seq = last;
END
$$;

-- Canonical JSON of a value, by its type.

CREATE OR REPLACE FUNCTION __deltamesh_json(bigint) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN $1 BETWEEN -9007199254740992 AND 9007199254740992 THEN $1::text
                ELSE coalesce('"' || $1::text || '"', 'null') END
$$;

CREATE OR REPLACE FUNCTION __deltamesh_json(boolean) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN $1 THEN 'true' WHEN NOT $1 THEN 'false' ELSE 'null' END
$$;

CREATE OR REPLACE FUNCTION __deltamesh_json(text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce(to_json($1)::text, 'null')
$$;

CREATE OR REPLACE FUNCTION __deltamesh_json(bytea) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce('"' || translate(encode($1, 'base64'), E'\n', '') || '"', 'null')
$$;

-- A double that PostgreSQL spells with an exponent, or a name: the digits are the same, the point stands elsewhere.
CREATE OR REPLACE FUNCTION __deltamesh_double(spelled text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    parts text[] := regexp_match(spelled, '^(-?)([0-9]+)(?:\.([0-9]+))?e([-+][0-9]+)$');
    digits text := rtrim(parts[2] || coalesce(parts[3], ''), '0');
    point integer := length(parts[2]) + parts[4]::integer;
    exponent text := 'e' || CASE WHEN point > 0 THEN '+' ELSE '' END || point - 1;
BEGIN
    RETURN CASE
        WHEN parts IS NULL THEN '"' || spelled || '"'
        WHEN point BETWEEN length(digits) AND 16 THEN parts[1] || rpad(digits, point, '0') || '.0'
        WHEN point BETWEEN 1 AND 16 THEN parts[1] || left(digits, point) || '.' || substr(digits, point + 1)
        WHEN point BETWEEN -4 AND 0 THEN parts[1] || '0.' || repeat('0', -point) || digits
        WHEN length(digits) = 1 THEN parts[1] || digits || exponent
        ELSE parts[1] || left(digits, 1) || '.' || substr(digits, 2) || exponent
    END;
END
$$;

CREATE OR REPLACE FUNCTION __deltamesh_json(double precision) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN $1 IS NULL THEN 'null'
                WHEN $1::text ~ '^-?[0-9]+$' THEN $1::text || '.0'
                WHEN $1::text ~ '^-?[0-9]+[.][0-9]+$' THEN $1::text
                ELSE __deltamesh_double($1::text) END
$$;

-- Fields in the order of their names, numbers beyond 2^53 as the doubles that they are; what no double holds as a text.
CREATE OR REPLACE FUNCTION __deltamesh_json(value jsonb) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN CASE jsonb_typeof(value)
        WHEN 'object' THEN (
            SELECT '{' || coalesce(string_agg(to_json(f.key)::text || ':' || __deltamesh_json(f.value), ','
                ORDER BY f.key COLLATE "C"), '') || '}' FROM jsonb_each(value) AS f)
        WHEN 'array' THEN (
            SELECT '[' || coalesce(string_agg(__deltamesh_json(e.value), ',' ORDER BY e.number), '') || ']'
            FROM jsonb_array_elements(value) WITH ORDINALITY AS e(value, number))
        WHEN 'number' THEN CASE
            WHEN value::text ~ '^-?[0-9]{1,16}$' AND abs(value::numeric) <= 9007199254740992 THEN value::text
            WHEN abs(value::numeric) > 1.7976931348623157e308 THEN '"' || value::text || '"'
            WHEN abs(value::numeric) < 2.5e-324 THEN '0.0'
            ELSE __deltamesh_json(value::numeric::double precision) END
        ELSE coalesce(value::text, 'null')
    END;
END
$$;

-- A subject token: bytes outside [A-Za-z0-9_-] are escaped, and what is too long is replaced by its hash (64-bit FNV-1a).
CREATE OR REPLACE FUNCTION __deltamesh_escaped(value text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    bytes bytea := convert_to(coalesce(value, ''), 'UTF8');
    byte integer;
    escaped text := '';
    hash numeric := 14695981039346656037;
BEGIN
    IF length(bytes) = 0 THEN RETURN '%'; END IF;
    FOR at IN 0 .. length(bytes) - 1 LOOP
        byte := get_byte(bytes, at);
        hash := mod((hash - mod(hash, 256) + (mod(hash, 256)::integer # byte)) * 1099511628211, 18446744073709551616);
        escaped := escaped || CASE WHEN byte < 128 AND chr(greatest(byte, 1)) ~ '[A-Za-z0-9_-]' THEN chr(byte)
                                   ELSE '%' || upper(lpad(to_hex(byte), 2, '0')) END;
    END LOOP;
    IF length(escaped) <= 128 THEN RETURN escaped; END IF;
    RETURN '%h' || lpad(to_hex(div(hash, 4294967296)::bigint), 8, '0')
        || lpad(to_hex(mod(hash, 4294967296)::bigint), 8, '0');
END
$$;

CREATE OR REPLACE FUNCTION __deltamesh_token(text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN $1 ~ '^[A-Za-z0-9_-]{1,128}$' THEN $1 ELSE __deltamesh_escaped($1) END
$$;

CREATE OR REPLACE FUNCTION __deltamesh_token(bigint) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce($1::text, '%')
$$;

CREATE OR REPLACE FUNCTION __deltamesh_token(boolean) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN $1 THEN 'true' WHEN NOT $1 THEN 'false' ELSE '%' END
$$;

CREATE OR REPLACE FUNCTION __deltamesh_token(double precision) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN $1 IS NULL THEN '%' ELSE __deltamesh_token(btrim(__deltamesh_json($1), '"')) END
$$;

CREATE OR REPLACE FUNCTION __deltamesh_token(bytea) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT __deltamesh_token(translate(encode($1, 'base64'), E'\n', ''))
$$;

CREATE OR REPLACE FUNCTION __deltamesh_token(value jsonb) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE jsonb_typeof($1) WHEN 'null' THEN '%' WHEN 'string' THEN __deltamesh_token($1 #>> '{}')
                ELSE __deltamesh_token(nullif(__deltamesh_json($1), 'null')) END
$$;

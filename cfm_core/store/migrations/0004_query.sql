-- What conditions made of predicates call; cfm_core.query says the same in Python.
CREATE SCHEMA query;

-- The instant that a text tells in RFC 3339, cut off to microseconds; null for any other text. Never raises.
CREATE FUNCTION query.instant_of(value text) RETURNS timestamptz
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT AS $$
DECLARE
  part   text[];
  year   integer;
  month  integer;
  day    integer;
  second double precision;
  clock  timestamptz;
BEGIN
  part := regexp_match(value,
    '^([0-9]{4})-([0-9]{2})-([0-9]{2})T([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])(\.[0-9]+)?'
    '(Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])$');
  IF part IS NULL THEN
    RETURN NULL;
  END IF;
  year := part[1];
  month := part[2];
  day := part[3];
  -- In brackets, because IF ends at a THEN outside of them.
  IF year = 0 OR month NOT BETWEEN 1 AND 12 OR day = 0 OR day > (
       CASE month
         WHEN 2 THEN CASE WHEN year % 4 = 0 AND (year % 100 <> 0 OR year % 400 = 0) THEN 29 ELSE 28 END
         WHEN 4 THEN 30 WHEN 6 THEN 30 WHEN 9 THEN 30 WHEN 11 THEN 30
         ELSE 31
       END) THEN
    RETURN NULL;
  END IF;
  second := part[6] || coalesce(left(part[7], 7), '');
  clock := make_timestamp(year, month, day, part[4]::integer, part[5]::integer, second) AT TIME ZONE 'UTC';
  IF part[8] <> 'Z' THEN
    clock := clock - make_interval(
      mins => (left(part[8], 1) || '1')::integer
              * (substr(part[8], 2, 2)::integer * 60 + substr(part[8], 5, 2)::integer));
  END IF;
  IF clock >= '0001-01-01T00:00:00Z' AND clock < '10000-01-01T00:00:00Z' THEN
    RETURN clock;
  END IF;
  RETURN NULL;
END
$$;

-- What an index of a path holds -----------------------------------------------------------------------------------------
--
-- Each function gives the one value at a path, null where there is none of its type, and a mark of its own, which is no value,
-- where an array lies on the path: then there may be several, and the condition itself has to look. Keys that read as
-- integers, with white space before them or not, are not for these functions, because an array has them.

CREATE FUNCTION query.has_array(document jsonb, path text[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN EXISTS (SELECT FROM generate_series(1, cardinality(path)) n WHERE jsonb_typeof(document #> path[1:n]) = 'array');

CREATE FUNCTION query.number_at(document jsonb, path text[]) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE jsonb_typeof(document #> path)
         WHEN 'number' THEN (document #> path)::numeric
         ELSE CASE WHEN query.has_array(document, path) THEN 'NaN'::numeric END
       END;

CREATE FUNCTION query.time_at(document jsonb, path text[]) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE jsonb_typeof(document #> path)
         WHEN 'string' THEN query.instant_of(document #>> path)
         ELSE CASE WHEN query.has_array(document, path) THEN 'infinity'::timestamptz END
       END;

-- The first 256 characters, so that no text is too long for an index.
CREATE FUNCTION query.text_at(document jsonb, path text[]) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE jsonb_typeof(document #> path)
         WHEN 'string' THEN left(document #>> path, 256)
         ELSE CASE WHEN query.has_array(document, path) THEN repeat('!', 257) END
       END;

-- What conditions made of predicates call; cfm_core.query says the same in Python.
CREATE SCHEMA query;

-- The instant that a text tells in RFC 3339, cut off to microseconds; null for any other text. Never raises.
CREATE FUNCTION query.instant_of(value text) RETURNS timestamptz
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT AS $$
DECLARE
  zone  integer := CASE right(value, 1) WHEN 'Z' THEN 1 ELSE 6 END;
  clock timestamptz;
BEGIN
  -- It captures nothing, which would take ten times as long.
  IF value !~ ('^(?!0000)[0-9]{4}-'
               '(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|[12][0-9]))'
               'T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])$') THEN
    RETURN NULL;
  END IF;
  IF substr(value, 6, 5) = '02-29' AND (
       left(value, 4)::integer % 4 <> 0 OR substr(value, 3, 2) = '00' AND left(value, 4)::integer % 400 <> 0) THEN
    RETURN NULL;
  END IF;
  clock := make_timestamp(
      left(value, 4)::integer, substr(value, 6, 2)::integer, substr(value, 9, 2)::integer,
      substr(value, 12, 2)::integer, substr(value, 15, 2)::integer,
      left(substr(value, 18, length(value) - 17 - zone), 9)::double precision)
    AT TIME ZONE 'UTC';
  IF zone > 1 THEN
    clock := clock - right(value, 6)::interval;
  END IF;
  IF clock >= '0001-01-01T00:00:00Z' AND clock < '10000-01-01T00:00:00Z' THEN
    RETURN clock;
  END IF;
  RETURN NULL;
END
$$;

-- Whether a predicate holds for a document. The predicate is an array: an operator, and what it takes.
--
--   ["true"]   ["not", p]   ["and", p, ...]   ["or", p, ...]
--   ["in", path, [value, ...]]   ["not in", path, [value, ...]]   ["like", path, pattern]   ["not like", path, pattern]
--   ["contains", path, value]   ["present", path]   ["<", path, value]   ["instant <", path, text]  and the other orders
--
-- Paths are jsonpaths from the document on. Source: cfm_core.query.conditions, which makes them.
CREATE FUNCTION query.holds(predicate jsonb, document jsonb) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE STRICT AS $$
DECLARE
  operator text := predicate->>0;
  operand  jsonb := predicate->2;
  path     jsonpath;
  part     jsonb;
BEGIN
  CASE operator
    WHEN 'true' THEN
      RETURN true;
    WHEN 'not' THEN
      RETURN NOT query.holds(predicate->1, document);
    WHEN 'and', 'or' THEN
      FOR part IN SELECT e.value FROM jsonb_array_elements(predicate - 0) e LOOP
        IF query.holds(part, document) <> (operator = 'and') THEN
          RETURN operator = 'or';
        END IF;
      END LOOP;
      RETURN operator = 'and';
    WHEN 'contains' THEN
      RETURN EXISTS (
        SELECT FROM jsonb_path_query(document, (predicate->>1)::jsonpath) v
         WHERE CASE jsonb_typeof(v)
                 WHEN 'array' THEN v @> operand
                 WHEN 'string' THEN jsonb_typeof(operand) = 'string' AND strpos(v #>> '{}', operand #>> '{}') > 0
                 ELSE false
               END);
    WHEN 'present' THEN
      RETURN EXISTS (SELECT FROM jsonb_path_query(document, (predicate->>1)::jsonpath) v WHERE v <> 'null');
    ELSE
      path := ((predicate->>1) || '[*]')::jsonpath;
  END CASE;
  RETURN EXISTS (
    SELECT FROM jsonb_path_query(document, path) v
     WHERE CASE operator
             WHEN 'in' THEN v IN (SELECT e.value FROM jsonb_array_elements(operand) e)
             WHEN 'not in' THEN v <> 'null' AND v NOT IN (SELECT e.value FROM jsonb_array_elements(operand) e)
             WHEN 'like' THEN jsonb_typeof(v) = 'string' AND v #>> '{}' LIKE operand #>> '{}'
             WHEN 'not like' THEN v <> 'null' AND NOT (jsonb_typeof(v) = 'string' AND v #>> '{}' LIKE operand #>> '{}')
             WHEN 'instant <' THEN jsonb_typeof(v) = 'string' AND query.instant_of(v #>> '{}') < (operand #>> '{}')::timestamptz
             WHEN 'instant <=' THEN jsonb_typeof(v) = 'string' AND query.instant_of(v #>> '{}') <= (operand #>> '{}')::timestamptz
             WHEN 'instant >' THEN jsonb_typeof(v) = 'string' AND query.instant_of(v #>> '{}') > (operand #>> '{}')::timestamptz
             WHEN 'instant >=' THEN jsonb_typeof(v) = 'string' AND query.instant_of(v #>> '{}') >= (operand #>> '{}')::timestamptz
             ELSE jsonb_path_match(
                    v,
                    CASE operator
                      WHEN '<' THEN 'strict $ < $operand'
                      WHEN '<=' THEN 'strict $ <= $operand'
                      WHEN '>' THEN 'strict $ > $operand'
                      WHEN '>=' THEN 'strict $ >= $operand'
                    END::jsonpath,
                    jsonb_build_object('operand', operand), true)
           END);
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

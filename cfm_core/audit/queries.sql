-- name: note
-- Notes what was done to one of the Provision Manager's entities, and by whom.
SELECT provision_manager.note(:action, :kind, :entity_id, :part, :before, :after, :document_before, :document_after,
                              :tenant_id, :participant_profile_id, :actor, :reason, :request_id);

-- name: erase
-- Empties what is told of an entity, or of an actor, so far. Gives how many entries had something to empty.
SELECT audit.erase(:kind, :entity_id, :erased_actor, :erased_issuer, :actor, :reason, :request_id);

-- name: seal
-- Seals some of what waits: the seal's number, how many entries it has, and its digest, 0 or 1 row.
SELECT number, entries, encode(digest, 'hex') FROM audit.seal_waiting(:most::integer);

-- name: list_seals
-- The next seals behind one.
SELECT s.number, s.entries, encode(s.previous, 'hex'), encode(s.digest, 'hex')
  FROM audit.seal s
 WHERE s.number > :after::bigint
 ORDER BY s.number
 LIMIT :most::bigint;

-- name: list_sealed
-- What some seals cover, in their order, and what there is of it now.
SELECT s.seal, s.entry_id, encode(s.who, 'hex'), encode(s.what, 'hex'), encode(s.digest, 'hex'),
       array_to_json(v.entry)::text, array_to_json(v.who)::text, v.who_erased_by, array_to_json(v.what)::text, v.what_erased_by
  FROM audit.sealed s
  LEFT JOIN audit.evidence v ON v.id = s.entry_id
 WHERE s.seal BETWEEN :first::bigint AND :last::bigint
 ORDER BY s.seal, s.entry_id;

-- name: list_strays
-- Some of what belongs to nothing, by its kind and its number.
(SELECT 'entry', e.id
   FROM audit.entry e
  WHERE NOT EXISTS (SELECT FROM audit.sealed s WHERE s.entry_id = e.id)
  ORDER BY e.id
  LIMIT 1000)
UNION ALL
(SELECT 'payload', p.entry_id
   FROM audit.payload p
  WHERE NOT EXISTS (SELECT FROM audit.entry e WHERE e.id = p.entry_id)
    AND NOT EXISTS (SELECT FROM audit.sealed s WHERE s.entry_id = p.entry_id)
  ORDER BY p.entry_id
  LIMIT 1000)
UNION ALL
(SELECT 'waiting', w.id
   FROM audit.waiting w
  WHERE EXISTS (SELECT FROM audit.sealed s WHERE s.entry_id = w.id)
  ORDER BY w.id
  LIMIT 1000)
UNION ALL
(SELECT DISTINCT 'seal', s.seal
   FROM audit.sealed s
  WHERE NOT EXISTS (SELECT FROM audit.seal n WHERE n.number = s.seal)
  ORDER BY s.seal
  LIMIT 1000);

-- name: list_emptied
-- For each entry in whose name others were emptied: how many, and whether it tells of just those.
WITH entry AS (
  SELECT e.id, e.action, e.kind, e.entity_id, e.after FROM audit.entry e
   UNION ALL
  SELECT w.id, w.action, w.kind, w.entity_id, w.after FROM audit.waiting w
), half AS (
  SELECT p.who_erased_by AS by, p.entry_id, 'actors' AS kind, '' AS entity_id
    FROM audit.payload p
   WHERE p.who_erased_by IS NOT NULL
   UNION ALL
  SELECT p.what_erased_by, p.entry_id, e.kind, e.entity_id
    FROM audit.payload p
    LEFT JOIN audit.entry e ON e.id = p.entry_id
   WHERE p.what_erased_by IS NOT NULL
   UNION ALL
  SELECT w.who_erased_by, w.id, 'actors', '' FROM audit.waiting w WHERE w.who_erased_by IS NOT NULL
   UNION ALL
  SELECT w.what_erased_by, w.id, w.kind, w.entity_id FROM audit.waiting w WHERE w.what_erased_by IS NOT NULL
)
SELECT n.by, n.entries,
       coalesce(e.action = 'erase' AND e.after = 'erased ' || n.entries AND (e.kind, e.entity_id) = (n.kind, n.entity_id)
                AND n.same AND n.latest < e.id, false)
  FROM (SELECT h.by, count(*) AS entries, min(h.kind) AS kind, min(h.entity_id) AS entity_id, max(h.entry_id) AS latest,
               (min(h.kind), min(h.entity_id)) = (max(h.kind), max(h.entity_id)) AS same
          FROM half h
         GROUP BY h.by) n
  LEFT JOIN entry e ON e.id = n.by
 ORDER BY n.by;

-- name: count_waiting
SELECT count(*) FROM audit.waiting;

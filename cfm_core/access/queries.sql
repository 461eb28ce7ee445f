-- name: find
-- What somebody may do: the version of all that says so, who it is, and their rights. Gives 1 row.
SELECT version, who, rights FROM access.of_caller(:issuer, :subject, :roles::text[]);

-- name: make_first_administrator
-- Makes the first user who may do everything; gives its id.
SELECT tenant_manager.make_first_administrator(:issuer, :subject)::text;

-- Who may do what: three roles, tenants, API keys, and the record of what administrators did.
--
-- The role that migrates owns every object. `watchbell_worker` moves the data of all tenants and
-- `watchbell_api` answers programs and people, one tenant at a time, behind row-level security.
-- Roles belong to the whole cluster: another database may have created them, at this very moment too.
DO $$
DECLARE role_name text;
BEGIN
  FOREACH role_name IN ARRAY ARRAY['watchbell_worker', 'watchbell_api'] LOOP
    BEGIN
      EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
      NULL;
    END;
    -- From PostgreSQL 16 on, who creates a role may administer it and still not become it: granted always. Two databases
    -- that are migrated at once may grant at once; and an administrator may have granted it before.
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
      BEGIN
        EXECUTE format('GRANT %I TO current_user', role_name);
      EXCEPTION WHEN internal_error OR unique_violation OR insufficient_privilege THEN
        NULL;
      END;
    END IF;
  END LOOP;
END
$$;

GRANT USAGE ON SCHEMA public TO watchbell_worker, watchbell_api;

-- The tenant of the transaction, set with `SET LOCAL watchbell.tenant_id`. NULL, and so no rows, when nobody set it.
CREATE FUNCTION current_tenant_id() RETURNS int
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT nullif(current_setting('watchbell.tenant_id', true), '')::int $$;

CREATE TABLE tenants (
  tenant_id  int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- The second token of the subject `readings.<tenant>`.
  name       text NOT NULL UNIQUE CHECK (name ~ '^[A-Za-z0-9_-]{1,64}$'),
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_keys (
  key_id     uuid PRIMARY KEY,
  tenant_id  int NOT NULL REFERENCES tenants,
  name       text NOT NULL,
  -- The public part of the key, by which it is looked up and named in lists.
  prefix     text NOT NULL UNIQUE,
  -- SHA-256 of the whole key. The key has 256 random bits: a slow password hash would add nothing.
  hash       bytea NOT NULL CHECK (length(hash) = 32),
  scopes     text[] NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  revoked_at timestamptz
);

-- Before a key is known no tenant is: this function is the only way past row-level security, one key at a time.
CREATE FUNCTION find_api_key(wanted_prefix text)
RETURNS TABLE (key_id uuid, tenant_id int, tenant text, name text, hash bytea, scopes text[], expired boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
AS $$
  SELECT k.key_id, k.tenant_id, t.name, k.name, k.hash, k.scopes,
         k.revoked_at IS NOT NULL OR coalesce(k.expires_at <= now(), false)
  FROM api_keys k JOIN tenants t USING (tenant_id)
  WHERE k.prefix = wanted_prefix
$$;
REVOKE ALL ON FUNCTION find_api_key(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_api_key(text) TO watchbell_api;

CREATE TABLE admin_actions (
  action_id uuid PRIMARY KEY,
  tenant_id int NOT NULL REFERENCES tenants,
  actor     text NOT NULL,
  action    text NOT NULL,
  target    text NOT NULL,
  reason    text,
  at        timestamptz NOT NULL DEFAULT now(),
  xid       xid8 NOT NULL DEFAULT pg_current_xact_id()
);

-- One row. Every change of rules and destinations raises it, in the same transaction; whoever holds such
-- things in memory compares it and loads them again.
CREATE TABLE config_version (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  version  bigint NOT NULL
);
INSERT INTO config_version (version) VALUES (1);

CREATE FUNCTION raise_config_version() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
BEGIN
  UPDATE config_version SET version = version + 1;
  RETURN NULL;
END
$$;

-- Triggers fire without anybody's right to call them; with it, a role could hang them on a table of its own.
REVOKE ALL ON FUNCTION raise_config_version() FROM PUBLIC;

-- Who is active, until when, on the clock of the database. `epoch` rises at every take-over and fences the former holder.
CREATE TABLE leases (
  name       text PRIMARY KEY,
  holder     uuid NOT NULL,
  epoch      bigint NOT NULL,
  expires_at timestamptz NOT NULL
);

CREATE TABLE workers (
  worker_id  uuid PRIMARY KEY,
  host       text NOT NULL,
  pid        int NOT NULL,
  started_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL
);

GRANT SELECT ON tenants, config_version TO watchbell_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON leases, workers TO watchbell_worker;

ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
CREATE POLICY worker ON tenants TO watchbell_worker USING (true);
CREATE POLICY tenant ON tenants TO watchbell_api USING (tenant_id = current_tenant_id());
GRANT SELECT ON tenants TO watchbell_api;

ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON api_keys TO watchbell_api USING (tenant_id = current_tenant_id());
GRANT SELECT (key_id, tenant_id, name, prefix, scopes, created_at, expires_at, revoked_at) ON api_keys TO watchbell_api;

ALTER TABLE admin_actions ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON admin_actions TO watchbell_api
  USING (tenant_id = current_tenant_id()) WITH CHECK (tenant_id = current_tenant_id());
-- Not `at` and `xid`: what is on record can't be dated back.
GRANT SELECT, INSERT (action_id, tenant_id, actor, action, target, reason) ON admin_actions TO watchbell_api;

-- Whether the schema is the one that the program knows: readiness asks as the role that does the work.
GRANT SELECT ON refinery_schema_history TO watchbell_worker, watchbell_api;

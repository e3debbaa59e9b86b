-- Sites, the SDK configurations that were published for them, and the clients
-- that may ask for tokens.

CREATE TABLE sites (
    site_code          TEXT    NOT NULL PRIMARY KEY,
    name               TEXT    NOT NULL,
    address_policy     TEXT    NOT NULL CHECK (address_policy IN ('drop', 'truncate', 'hash', 'keep')),
    session_timeout_ms INTEGER NOT NULL CHECK (session_timeout_ms > 0),
    visitor_cookie     INTEGER NOT NULL CHECK (visitor_cookie IN (0, 1)),
    -- Empty: the cookie is for the host that set it.
    cookie_domain      TEXT    NOT NULL,
    heartbeat_extends  INTEGER NOT NULL CHECK (heartbeat_extends IN (0, 1)),
    time_zone          TEXT    NOT NULL
) STRICT;

-- Each publication is a row; the newest of (site, environment) is served.
CREATE TABLE sdk_configurations (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    site_code       TEXT    NOT NULL REFERENCES sites (site_code),
    -- Empty: for every environment that has none of its own.
    environment     TEXT    NOT NULL,
    document        BLOB    NOT NULL,
    -- Seconds since 1970; each publication of a site has a greater one.
    last_modified_s INTEGER NOT NULL,
    author          TEXT    NOT NULL,
    published_at_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX sdk_configurations_by_site ON sdk_configurations (site_code, environment, id);

CREATE TABLE clients (
    site_code     TEXT    NOT NULL REFERENCES sites (site_code),
    client_id     TEXT    NOT NULL,
    -- Argon2id in PHC notation.
    secret_hash   TEXT    NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (site_code, client_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX clients_by_id ON clients (client_id);

-- Grows with each change that other processes must see. Triggers move it, so
-- that no way of writing can forget to.
CREATE TABLE revision (
    id     INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    number INTEGER NOT NULL
) STRICT;

INSERT INTO revision (id, number) VALUES (1, 1);

CREATE TRIGGER sites_inserted AFTER INSERT ON sites BEGIN UPDATE revision SET number = number + 1; END;
CREATE TRIGGER sites_updated AFTER UPDATE ON sites BEGIN UPDATE revision SET number = number + 1; END;
CREATE TRIGGER sites_deleted AFTER DELETE ON sites BEGIN UPDATE revision SET number = number + 1; END;
CREATE TRIGGER sdk_configurations_inserted AFTER INSERT ON sdk_configurations
BEGIN UPDATE revision SET number = number + 1; END;
CREATE TRIGGER sdk_configurations_deleted AFTER DELETE ON sdk_configurations
BEGIN UPDATE revision SET number = number + 1; END;

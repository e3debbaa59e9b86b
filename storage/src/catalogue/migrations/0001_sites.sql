-- Sites, the SDK configurations that were published for them, and the clients
-- that may ask for tokens. A word with `$` stands for what each database calls it
-- (dialect.rs); blank lines separate statements.

CREATE TABLE sites (
    site_code          $key     NOT NULL PRIMARY KEY,
    name               $text    NOT NULL,
    address_policy     $key     NOT NULL CHECK (address_policy IN ('drop', 'truncate', 'hash', 'keep')),
    session_timeout_ms $integer NOT NULL CHECK (session_timeout_ms > 0),
    visitor_cookie     $integer NOT NULL CHECK (visitor_cookie IN (0, 1)),
    -- Empty: the cookie is for the host that set it.
    cookie_domain      $text    NOT NULL,
    heartbeat_extends  $integer NOT NULL CHECK (heartbeat_extends IN (0, 1)),
    time_zone          $text    NOT NULL
) $table;

-- Each publication is a row; the newest of (site, environment) is served.
CREATE TABLE sdk_configurations (
    id              $identity,
    site_code       $key      NOT NULL,
    -- Empty: for every environment that has none of its own.
    environment     $exact    NOT NULL,
    document        $document NOT NULL,
    -- Seconds since 1970; each publication of a site has a greater one.
    last_modified_s $integer  NOT NULL,
    author          $text     NOT NULL,
    published_at_ms $integer  NOT NULL,
    FOREIGN KEY (site_code) REFERENCES sites (site_code)
) $table;

CREATE INDEX sdk_configurations_by_site ON sdk_configurations (site_code, environment, id);

CREATE TABLE clients (
    site_code     $key     NOT NULL,
    client_id     $key     NOT NULL,
    -- Argon2id in PHC notation.
    secret_hash   $text    NOT NULL,
    created_at_ms $integer NOT NULL,
    PRIMARY KEY (site_code, client_id),
    FOREIGN KEY (site_code) REFERENCES sites (site_code)
) $table;

CREATE INDEX clients_by_id ON clients (client_id);

-- Grows with each change that other processes must see.
CREATE TABLE revision (
    id     $integer NOT NULL PRIMARY KEY CHECK (id = 1),
    number $integer NOT NULL
) $table;

INSERT INTO revision (id, number) VALUES (1, 1);

-- $file only
CREATE TRIGGER sites_inserted AFTER INSERT ON sites BEGIN UPDATE revision SET number = number + 1; END;

-- $file only
CREATE TRIGGER sites_updated AFTER UPDATE ON sites BEGIN UPDATE revision SET number = number + 1; END;

-- $file only
CREATE TRIGGER sites_deleted AFTER DELETE ON sites BEGIN UPDATE revision SET number = number + 1; END;

-- $file only
CREATE TRIGGER sdk_configurations_inserted AFTER INSERT ON sdk_configurations
BEGIN UPDATE revision SET number = number + 1; END;

-- $file only
CREATE TRIGGER sdk_configurations_deleted AFTER DELETE ON sdk_configurations
BEGIN UPDATE revision SET number = number + 1; END;

-- Data sets that people have uploaded, by their names; their bytes are artifacts, which stay as long as they have a name.
CREATE TABLE trimtab.datasets (
    name        text PRIMARY KEY,
    sha256      text NOT NULL REFERENCES trimtab.artifacts (sha256),
    uploaded_at timestamptz NOT NULL DEFAULT trimtab.now()
);

"""The tables, for both databases. Changes are appended to MIGRATIONS; what is released is never edited."""

from __future__ import annotations

_FIRST = """
CREATE TABLE mlops_runs (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, cause TEXT NOT NULL, state TEXT NOT NULL, error TEXT NOT NULL,
  started TEXT NOT NULL, ended TEXT NOT NULL, pid INTEGER NOT NULL, host TEXT NOT NULL, born TEXT NOT NULL);
CREATE INDEX mlops_runs_by_name ON mlops_runs (name, started);
CREATE TABLE mlops_outcomes (
  name TEXT NOT NULL, stage TEXT NOT NULL, key TEXT NOT NULL, parts TEXT NOT NULL, record TEXT NOT NULL,
  artifacts TEXT NOT NULL, run TEXT NOT NULL, created TEXT NOT NULL, seconds DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (name, stage, key));
CREATE TABLE mlops_uses (
  number {serial}, name TEXT NOT NULL, stage TEXT NOT NULL, key TEXT NOT NULL, run TEXT NOT NULL, at TEXT NOT NULL);
CREATE INDEX mlops_uses_by_stage ON mlops_uses (name, stage, number);
CREATE TABLE mlops_versions (
  name TEXT NOT NULL, number INTEGER NOT NULL, identity TEXT NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (name, number), UNIQUE (name, identity));
CREATE TABLE mlops_aliases (
  number {serial}, name TEXT NOT NULL, alias TEXT NOT NULL, version INTEGER, at TEXT NOT NULL,
  actor TEXT NOT NULL, reason TEXT NOT NULL);
CREATE INDEX mlops_aliases_by_name ON mlops_aliases (name, alias, number);
CREATE TABLE mlops_desires (
  number {serial}, name TEXT NOT NULL, deployer TEXT NOT NULL, serving TEXT, at TEXT NOT NULL);
CREATE INDEX mlops_desires_by_name ON mlops_desires (name, number);
CREATE TABLE mlops_verdicts (
  number {serial}, name TEXT NOT NULL, "window" TEXT NOT NULL, verdict TEXT NOT NULL, at TEXT NOT NULL);
CREATE INDEX mlops_verdicts_by_name ON mlops_verdicts (name, number);
CREATE TABLE mlops_audit (
  number INTEGER PRIMARY KEY, at TEXT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL,
  reason TEXT NOT NULL, facts TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL);
CREATE TABLE mlops_audit_head (
  one INTEGER PRIMARY KEY, count INTEGER NOT NULL, hash TEXT NOT NULL, key_id TEXT NOT NULL, mac TEXT NOT NULL);
CREATE TABLE mlops_locks (
  name TEXT PRIMARY KEY, pid INTEGER NOT NULL, host TEXT NOT NULL, since TEXT NOT NULL);
"""

_FIRST_SQLITE = """
CREATE TRIGGER mlops_audit_no_update BEFORE UPDATE ON mlops_audit
  BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER mlops_audit_no_delete BEFORE DELETE ON mlops_audit
  BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
"""

_FIRST_POSTGRESQL = """
CREATE FUNCTION mlops_audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$;
CREATE TRIGGER mlops_audit_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON mlops_audit
  FOR EACH STATEMENT EXECUTE FUNCTION mlops_audit_refuse();
"""

_ROLLOUTS = """
CREATE TABLE mlops_rollouts (
  number {serial}, name TEXT NOT NULL, event TEXT NOT NULL, body TEXT NOT NULL, at TEXT NOT NULL);
CREATE INDEX mlops_rollouts_by_name ON mlops_rollouts (name, number);
"""
_KEYS = """
CREATE TABLE mlops_keys (
  number {serial}, name TEXT NOT NULL, id TEXT NOT NULL, scope TEXT NOT NULL, model TEXT NOT NULL,
  rate DOUBLE PRECISION NOT NULL, who TEXT NOT NULL, salt TEXT NOT NULL, digest TEXT NOT NULL, created TEXT NOT NULL,
  expires TEXT NOT NULL, revoked TEXT NOT NULL, UNIQUE (name, id));
"""
_SERIAL = ("INTEGER PRIMARY KEY AUTOINCREMENT", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY")

# Each step for (SQLite, PostgreSQL); the schema's version is the number of steps taken.
MIGRATIONS: tuple[tuple[str, str], ...] = (
    (_FIRST.format(serial=_SERIAL[0]) + _FIRST_SQLITE, _FIRST.format(serial=_SERIAL[1]) + _FIRST_POSTGRESQL),
    (_ROLLOUTS.format(serial=_SERIAL[0]), _ROLLOUTS.format(serial=_SERIAL[1])),
    (_KEYS.format(serial=_SERIAL[0]), _KEYS.format(serial=_SERIAL[1])),
)
VERSION = len(MIGRATIONS)

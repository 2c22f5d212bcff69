CREATE TABLE t_session (
  session_id VARCHAR(64) PRIMARY KEY,
  type SMALLINT NOT NULL DEFAULT 1,
  name VARCHAR(128),
  owner_username VARCHAR(64),
  max_seq_id BIGINT DEFAULT 0,
  created_at TIMESTAMPTZ,
  updated_at TIMESTAMPTZ
);
CREATE TABLE t_session_member (
  session_id VARCHAR(64) NOT NULL,
  username VARCHAR(64) NOT NULL,
  role SMALLINT DEFAULT 0,
  last_read_seq BIGINT DEFAULT 0,
  created_at TIMESTAMPTZ,
  updated_at TIMESTAMPTZ,
  PRIMARY KEY (session_id, username)
);
CREATE INDEX idx_member_username ON t_session_member (username);
CREATE TABLE t_inbox (
  id BIGSERIAL PRIMARY KEY,
  owner_username VARCHAR(64) NOT NULL,
  session_id VARCHAR(64) NOT NULL,
  msg_id BIGINT NOT NULL,
  seq_id BIGINT NOT NULL,
  is_read SMALLINT DEFAULT 0,
  created_at TIMESTAMPTZ
);
CREATE UNIQUE INDEX uniq_owner_sess_seq ON t_inbox (owner_username, session_id, seq_id);
CREATE INDEX idx_owner_read ON t_inbox (owner_username, is_read);
CREATE INDEX idx_owner_id ON t_inbox (owner_username, id);
CREATE TABLE t_message_content (
  msg_id BIGINT PRIMARY KEY,
  session_id VARCHAR(64) NOT NULL,
  sender_username VARCHAR(64) NOT NULL,
  seq_id BIGINT NOT NULL,
  content TEXT,
  msg_type VARCHAR(32),
  created_at TIMESTAMPTZ
);
CREATE INDEX idx_sess_seq ON t_message_content (session_id, seq_id);
ALTER TABLE t_session OWNER TO resonance;
ALTER TABLE t_session_member OWNER TO resonance;
ALTER TABLE t_inbox OWNER TO resonance;
ALTER TABLE t_message_content OWNER TO resonance;

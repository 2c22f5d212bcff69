CREATE DATABASE resonance CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
CREATE TABLE resonance.t_session (
  session_id VARCHAR(64) NOT NULL PRIMARY KEY,
  type TINYINT NOT NULL DEFAULT 1,
  name VARCHAR(128) NOT NULL DEFAULT '',
  owner_username VARCHAR(64) NOT NULL DEFAULT '',
  max_seq_id BIGINT NOT NULL DEFAULT 0,
  created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  updated_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)
) ENGINE=InnoDB;
CREATE TABLE resonance.t_session_member (
  session_id VARCHAR(64) NOT NULL,
  username VARCHAR(64) NOT NULL,
  role TINYINT NOT NULL DEFAULT 0,
  last_read_seq BIGINT NOT NULL DEFAULT 0,
  created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  PRIMARY KEY (session_id, username),
  KEY idx_username (username)
) ENGINE=InnoDB;
CREATE TABLE resonance.t_inbox (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  owner_username VARCHAR(64) NOT NULL,
  session_id VARCHAR(64) NOT NULL,
  msg_id BIGINT NOT NULL,
  seq_id BIGINT NOT NULL,
  is_read TINYINT NOT NULL DEFAULT 0,
  created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  UNIQUE KEY uk_owner_session_seq (owner_username, session_id, seq_id)
) ENGINE=InnoDB;
CREATE TABLE resonance.t_message_content (
  msg_id BIGINT NOT NULL PRIMARY KEY,
  session_id VARCHAR(64) NOT NULL,
  sender_username VARCHAR(64) NOT NULL,
  seq_id BIGINT NOT NULL,
  content TEXT NOT NULL,
  msg_type VARCHAR(32) NOT NULL DEFAULT 'text',
  created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  KEY idx_session_seq (session_id, seq_id)
) ENGINE=InnoDB;
CREATE USER 'resonance'@'%' IDENTIFIED BY 'resonance';
GRANT ALL ON resonance.* TO 'resonance'@'%';
CREATE USER 'resonance'@'localhost' IDENTIFIED BY 'resonance';
GRANT ALL ON resonance.* TO 'resonance'@'localhost';
CREATE USER 'resonance'@'127.0.0.1' IDENTIFIED BY 'resonance';
GRANT ALL ON resonance.* TO 'resonance'@'127.0.0.1';

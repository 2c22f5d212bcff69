-- One group of three, for the first look.
INSERT INTO resonance.t_session (session_id, type, name) VALUES ('group-1', 2, 'first look');
INSERT INTO resonance.t_session_member (session_id, username) VALUES ('group-1', 'ann'), ('group-1', 'bob'), ('group-1', 'cat');

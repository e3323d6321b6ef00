-- What was said in each chat, with the names of the senders.
CREATE MATERIALIZED VIEW chat_feed WITH (subject = 'chat_id') AS
  SELECT m.chat_message_id, m.chat_id, m.user_id, u.login AS sender, m.body, m.sent_at
  FROM chat_message m
  JOIN user u ON u.user_id = m.user_id
  ORDER BY m.sent_at;

-- How much was said in each chat.
CREATE MATERIALIZED VIEW chat_counts AS
  SELECT chat_id, COUNT(*) AS messages
  FROM chat_message
  GROUP BY chat_id;

-- The chats that each person is in.
CREATE MATERIALIZED VIEW user_chats WITH (subject = 'user_id') AS
  SELECT uc.user_id, uc.chat_id, c.title
  FROM user_chat uc
  JOIN chat c ON c.chat_id = uc.chat_id;

-- The channel's number.
SELECT
  auction, bidder, price, channel,
  CASE
    WHEN lower(channel) = 'apple' THEN '0'
    WHEN lower(channel) = 'google' THEN '1'
    WHEN lower(channel) = 'facebook' THEN '2'
    ELSE substr(url, position('channel_id=' IN url) + 11)
  END AS channel_id
FROM bid
WHERE lower(channel) IN ('apple', 'google', 'facebook') OR url LIKE '%channel_id=%'

-- The last bid of a bidder on an auction.
SELECT auction, bidder, price, channel, date_time
FROM (
  SELECT auction, bidder, price, channel, date_time, row_number() OVER (PARTITION BY bidder, auction ORDER BY date_time DESC, id DESC) AS place
  FROM bid
) AS ranked
WHERE place <= 1

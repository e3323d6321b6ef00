-- The ten highest bids of an auction.
SELECT *
FROM (
  SELECT auction, bidder, price, date_time, row_number() OVER (PARTITION BY auction ORDER BY price DESC, id) AS place
  FROM bid
) AS ranked
WHERE place <= 10

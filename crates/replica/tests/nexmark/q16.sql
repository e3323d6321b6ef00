-- Statistics of a channel and day.
SELECT
  channel,
  date(date_time) AS day,
  max(substring(date_time FROM 12 FOR 5)) AS minute,
  count(*) AS total_bids,
  count(*) FILTER (WHERE price < 10000) AS rank1_bids,
  count(DISTINCT bidder) AS total_bidders,
  count(DISTINCT auction) AS total_auctions
FROM bid
GROUP BY channel, date(date_time)

-- Calculation.
SELECT
  auction,
  bidder,
  price * 908 AS price,
  CASE
    WHEN extract(hour FROM date_time) BETWEEN 8 AND 18 THEN 'day'
    WHEN extract(hour FROM date_time) <= 6 OR extract(hour FROM date_time) >= 20 THEN 'night'
    ELSE 'other'
  END AS bid_time_type,
  date_time,
  length(replace(extra, 'c', 'cc')) - length(extra) AS c_counts
FROM bid
WHERE price * 908 > 1000000 AND price * 908 < 50000000

-- Average selling price of a seller's last ten closed auctions.
SELECT seller, avg(final) OVER (PARTITION BY seller ORDER BY closed, id ROWS BETWEEN 10 PRECEDING AND CURRENT ROW) AS average, id
FROM (
  SELECT a.seller, a.id, max(a.expires) AS closed, max(b.price) AS final
  FROM auction AS a
  JOIN bid AS b ON a.id = b.auction
  WHERE b.date_time BETWEEN a.date_time AND a.expires
  GROUP BY a.id, a.seller
) AS won

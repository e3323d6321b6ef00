-- Currency conversion: cents of a dollar in thousandths of a euro.
SELECT auction, bidder, price * 908 AS price, date_time, extra FROM bid

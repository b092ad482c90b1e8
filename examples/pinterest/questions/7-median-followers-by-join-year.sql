-- What is the median number of followers by the year in which a user joined, from 2015 to 2020?
--
-- Of two middle values, the median is their mean; the lower median is the smaller of them, as Spark's percentile_approx gives.
-- Unknown numbers of followers don't count.

select
    join_year,
    percentile_cont(0.5) within group (order by follower_count) as median_follower_count,
    percentile_disc(0.5) within group (order by follower_count) as lower_median_follower_count
from posts
where join_year between 2015 and 2020
group by join_year
order by join_year;

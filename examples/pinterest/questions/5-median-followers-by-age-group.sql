-- What is the median number of followers in each age group?
--
-- Of two middle values, the median is their mean; the lower median is the smaller of them, as Spark's percentile_approx gives.
-- Unknown numbers of followers don't count.

select
    age_group,
    percentile_cont(0.5) within group (order by follower_count) as median_follower_count,
    percentile_disc(0.5) within group (order by follower_count) as lower_median_follower_count
from posts
group by age_group
order by age_group = '+50', age_group;

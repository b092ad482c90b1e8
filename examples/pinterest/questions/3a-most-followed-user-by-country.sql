-- Who has the most followers in each country? Whose number of followers is unknown does not take part.

with posters as (
    select country, poster_name, max(follower_count) as follower_count
    from posts
    where follower_count is not null
    group by country, poster_name
)
select country, poster_name, follower_count
from posters
qualify rank() over (partition by country order by follower_count desc) = 1
order by country, poster_name;

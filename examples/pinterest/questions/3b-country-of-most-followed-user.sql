-- In which country is the user with the most followers? In several, where such users post from several.

select distinct country, follower_count
from posts
where follower_count = (select max(follower_count) from posts)
order by country;

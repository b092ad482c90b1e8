-- How many users joined in each year from 2015 to 2020?
--
-- A user who posts often is one user: name, age and time of joining tell users apart. number_posts is what they posted, and
-- what a count of rows gives.

with users as (
    select user_name, age, date_joined, join_year, count(*) as post_count
    from posts
    where join_year between 2015 and 2020
    group by user_name, age, date_joined, join_year
)
select join_year, count(*) as number_users_joined, sum(post_count) as number_posts
from users
group by join_year
order by join_year;

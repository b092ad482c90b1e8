-- Which category was posted most in each year from 2018 to 2022? Equally popular ones all count.

with counted as (
    select post_year, category, count(*) as category_count
    from posts
    where post_year between 2018 and 2022
    group by post_year, category
)
select post_year, category, category_count
from counted
qualify rank() over (partition by post_year order by category_count desc) = 1
order by post_year, category;

-- Which category is posted most in each country? Equally popular ones all count.

with counted as (
    select country, category, count(*) as category_count
    from posts
    group by country, category
)
select country, category, category_count
from counted
qualify rank() over (partition by country order by category_count desc) = 1
order by country, category;

-- Which category do the users of each age group post most? Equally popular ones all count.

with counted as (
    select age_group, category, count(*) as category_count
    from posts
    group by age_group, category
)
select age_group, category, category_count
from counted
qualify rank() over (partition by age_group order by category_count desc) = 1
order by age_group = '+50', age_group, category;

-- How many posts did each category get in each year from 2018 to 2022?

select post_year, category, count(*) as category_count
from posts
where post_year between 2018 and 2022
group by post_year, category
order by post_year, category;

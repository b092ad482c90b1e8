-- One row a post, from the three cleaned tables: what the questions beside this file ask.
--
-- A restarted emulation posts rows again, and a row may be drawn twice: `distinct` keeps one of each. Times are text in JSON
-- and times in a Delta table; the cast reads both.

create view posts as
select
    pin.ind,
    pin.category,
    pin.poster_name,
    pin.follower_count,
    geo.country,
    geo.post_year,
    users.user_name,
    users.age,
    users.date_joined,
    users.join_year,
    case
        when users.age between 18 and 24 then '18-24'
        when users.age between 25 and 35 then '25-35'
        when users.age between 36 and 50 then '36-50'
        when users.age > 50 then '+50'
    end as age_group
from (
    select distinct ind, category, poster_name, cast(follower_count as bigint) as follower_count
    from pin
) as pin
join (
    select distinct ind, country, extract(year from cast("timestamp" as timestamp)) as post_year
    from geo
) as geo on geo.ind = pin.ind
join (
    select distinct ind, user_name, age, date_joined, extract(year from cast(date_joined as timestamp)) as join_year
    from "user"
) as users on users.ind = pin.ind;

"""Users who post, the way the original pipeline emulates them: plain Python and `requests`, no library of ours.

    python3 examples/pinterest/post.py http://127.0.0.1:8082              # posts for ever, sleeping 0 or 1 s before each round
    python3 examples/pinterest/post.py BASE --rounds 50 --pace none       # 50 rounds as fast as they go
    python3 examples/pinterest/post.py BASE --leg streaming               # into Kinesis streams instead of topics
    python3 examples/pinterest/post.py BASE --rows FOLDER                 # rows of FOLDER/pin.jsonl, geo.jsonl, user.jsonl

BASE is whatever stands in front of /topics and /streams: this gateway, a REST proxy, or an API gateway with its stage
(https://abc.execute-api.us-east-1.amazonaws.com/test). Every round draws one row number and posts that row of each of the
three tables. The draws are those of `random.seed(100)`, so a restart posts the same rows again.
"""

import argparse
import datetime
import json
import pathlib
import random
import sys
import time

import requests

CATEGORIES = ["art", "beauty", "christmas", "diy-and-crafts", "education", "event-planning", "finance", "home-decor",
              "mens-fashion", "quotes", "tattoos", "travel", "vehicles"]
COUNTRIES = ["Albania", "Antarctica (the territory South of 60 deg S)", "Bulgaria", "Cote d'Ivoire", "Japan", "Uruguay"]
WORDS = ["quiet", "bright", "small", "paper", "garden", "kitchen", "winter", "harbour", "copper", "meadow", "lantern", "\N{HERB}"]


def made_up_rows(number):
    """One row of each table. The same number gives the same rows; every text is invented."""
    dice = random.Random(number)
    words = lambda n: " ".join(dice.choice(WORDS) for _ in range(n))
    category = dice.choice(CATEGORIES)
    missing = dice.random() < 0.01
    pin = {
        "index": number,
        "unique_id": "%08x-%04x-4%03x-a%03x-%012x" % tuple(dice.getrandbits(n) for n in (32, 16, 12, 12, 48)),
        "title": "No Title Data Available" if missing else words(4).capitalize(),
        "description": dice.choice(["No description available", words(9)]),
        "poster_name": "User Info Error" if missing else words(2).title(),
        "follower_count": "User Info Error" if missing else dice.choice([str(dice.randrange(1000)), f"{dice.randrange(1, 999)}k", "2M"]),
        "tag_list": "N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e" if missing else ",".join(dice.sample(WORDS, 9)),
        "is_image_or_video": dice.choices(["image", "multi-video(story page format)", "video"], [90, 7, 3])[0],
        "image_src": f"https://images.example/{number}.jpg",
        "downloaded": 1,
        "save_location": f"Local save in /data/{category}",
        "category": category,
    }
    geo = {
        "ind": number,
        "timestamp": datetime.datetime(2017, 10, 19) + datetime.timedelta(seconds=dice.randrange(5 * 365 * 86400)),
        "latitude": round(dice.uniform(-90, 90), 4),
        "longitude": round(dice.uniform(-180, 180), 4),
        "country": dice.choice(COUNTRIES),
    }
    user = {
        "ind": number,
        "first_name": dice.choice(["Ada", "Bo", "Cleo", "Dora", "Emil"]),
        "last_name": dice.choice(["Ash", "Birch", "Cedar", "Fir", "Oak"]),
        "age": dice.randint(20, 60),
        "date_joined": datetime.datetime(2015, 10, 21) + datetime.timedelta(seconds=dice.randrange(2 * 365 * 86400)),
    }
    return {"pin": pin, "geo": geo, "user": user}


def rows_of(folder):
    """The rows of files, by their number."""
    tables = {}
    for table, number in [("pin", "index"), ("geo", "ind"), ("user", "ind")]:
        with open(folder / f"{table}.jsonl", encoding="utf-8") as lines:
            tables[table] = {row[number]: row for row in map(json.loads, lines)}
    return tables


def written(value):
    """Datetimes as text: JSON has none."""
    return value.isoformat()


def post(session, base, leg, uid, table, row):
    """Posts one row; anything but success ends the program with what was answered."""
    if leg == "batch":
        url = f"{base}/topics/{uid}.{table}"
        headers = {"Content-Type": "application/vnd.kafka.json.v2+json"}
        payload = json.dumps({"records": [{"value": row}]}, default=written)
        response = session.request("POST", url, headers=headers, data=payload)
    else:
        stream = f"streaming-{uid}-{table}"
        url = f"{base}/streams/{stream}/record"
        headers = {"Content-Type": "application/json"}
        payload = json.dumps({"StreamName": stream, "Data": row, "PartitionKey": "partition-1"}, default=written)
        response = session.request("PUT", url, headers=headers, data=payload)
    if response.status_code != 200:
        sys.exit(f"{response.request.method} {url}: {response.status_code} {response.text}")
    return response.json()


def main():
    arguments = argparse.ArgumentParser(description="Emulates users who post.")
    arguments.add_argument("base", help="URL in front of /topics and /streams")
    arguments.add_argument("--leg", choices=["batch", "streaming", "both"], default="batch")
    arguments.add_argument("--uid", default="0a4e65e909bd", help="12 hex digits in the names of topics and streams")
    arguments.add_argument("--rounds", type=int, help="how many; without it, for ever")
    arguments.add_argument("--pace", choices=["original", "none"], default="original")
    arguments.add_argument("--rows", type=pathlib.Path, help="folder of pin.jsonl, geo.jsonl, user.jsonl")
    arguments.add_argument("--api-key", help="for a gateway that asks for one")
    options = arguments.parse_args()

    base = options.base.rstrip("/")
    tables = rows_of(options.rows) if options.rows else None
    legs = ["batch", "streaming"] if options.leg == "both" else [options.leg]
    session = requests.Session()
    if options.api_key:
        session.headers["x-api-key"] = options.api_key
    random.seed(100)
    done = 0
    while options.rounds is None or done < options.rounds:
        # Both numbers come from one generator, so the first is drawn even where nobody sleeps.
        pause = random.randrange(0, 2)
        number = random.randint(0, 11000)
        if options.pace == "original":
            time.sleep(pause)
        if tables:
            rows = {table: rows[number] for table, rows in tables.items()}
        else:
            rows = made_up_rows(number)
        for leg in legs:
            for table, row in rows.items():
                post(session, base, leg, options.uid, table, row)
        done += 1
    print(f"{done} rounds posted")


if __name__ == "__main__":
    main()

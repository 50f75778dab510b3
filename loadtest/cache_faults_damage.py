"""Row 23 of cache_faults.py: the cache's files are damaged, while the server runs and while it does not."""
import os
import random
import shutil
import time

from cache_faults_tools import Load, get

HEADER = 56      # of an object's file; its key follows, whose length stands at 16
NOBODY = 65534


# --- Ways to damage a file ---------------------------------------------------------------------------------------------------

def flip(path, chance):
    with open(path, "r+b") as file:
        size = os.fstat(file.fileno()).st_size
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(size)
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ (1 << chance.randrange(8))]))


def cut(path, chance):
    os.truncate(path, chance.randrange(path.stat().st_size))


def empty(path, _):
    os.truncate(path, 0)


def zero(path, _):
    with open(path, "r+b") as file:
        file.write(bytes(os.fstat(file.fileno()).st_size))


def append(path, chance):
    with open(path, "ab") as file:
        file.write(chance.randbytes(chance.randrange(1, 5000)))


def noise(path, chance):
    with open(path, "r+b") as file:
        file.write(chance.randbytes(os.fstat(file.fileno()).st_size))


def replace(path, chance):
    new = path.with_name("foreign")
    new.write_bytes(chance.randbytes(path.stat().st_size))
    new.rename(path)


def delete(path, _):
    path.unlink()


def close(path, _):
    path.chmod(0)


OF_OBJECTS = (flip, cut, empty, zero, append, noise, replace, delete, close)
OF_INDEX = (flip, cut, empty, zero, append, noise, replace, delete)


def swap(one, two):
    spare = one.with_name("spare")
    one.rename(spare)
    two.rename(one)
    spare.rename(two)


def key_of(path):
    """Coding and name of the file that an object was made of."""
    data = path.read_bytes()
    key = data[HEADER:HEADER + int.from_bytes(data[16:20], "little")].decode()
    coding, _, name = key.partition(" /")
    return name, coding


def damage_some(server, chance):
    """Damages about half of the objects, in every way; the keys of those that are hurt."""
    paths = sorted(server.objects())
    keys = {path: key_of(path) for path in paths}
    hurt = chance.sample(paths, len(paths) // 2)
    swapped, rest = hurt[:len(hurt) // 5 // 2 * 2], hurt[len(hurt) // 5 // 2 * 2:]
    for one, two in zip(swapped[::2], swapped[1::2]):
        swap(one, two)
    for number, path in enumerate(rest):
        OF_OBJECTS[number % len(OF_OBJECTS)](path, chance)
    folder = chance.choice(paths).parent
    hurt += folder.iterdir()
    shutil.rmtree(folder)
    return {keys[path] for path in hurt if path in keys}


# --- The row -----------------------------------------------------------------------------------------------------------------

CODINGS = ("gzip", "br", "zstd")


def ask_all(server, names, learn=False):
    """Asks for everything: which keys were hits, and what was wrong."""
    hits, wrong = set(), []
    for name in names:
        for coding in CODINGS:
            answer = get(server.port, name, coding)
            if learn:
                server.site.learn(name, coding, answer)
            if answer.status != 200 or not server.site.is_right(name, coding, 0, answer):
                wrong.append((name, coding, answer.status))
            if answer.hit:
                hits.add((name, coding))
    return hits, wrong


def play(stage):
    chance = random.Random(stage.seed)
    site = stage.site("damage")
    names = site.many("s", 20 if stage.quick else 150)
    # Another user than root, for whom a closed file is closed.
    user = NOBODY if os.geteuid() == 0 else None
    server = stage.server("damage", site, "--cache-max-objects", "5000", user=user)
    if user:
        os.chown(server.log.parent, user, user)
    server.start()
    time.sleep(0.1)
    ask_all(server, names, learn=True)
    keys = {(name, coding) for name in names for coding in CODINGS}
    for running in (False, True):
        objects(stage, server, names, keys, chance, running)
    index_stopped(stage, server, names, keys, chance)
    index_running(stage, server, names, chance)
    under_load(stage, server, names, chance)
    server.stop()


def restart(server):
    server.stop()
    server.start()


def objects(stage, server, names, keys, chance, running):
    """What is damaged is a miss and heals; what is not is a hit. (A restart empties the workers' memory.)"""
    server.stop()
    if running:
        server.start()
        hurt = damage_some(server, chance)
    else:
        hurt = damage_some(server, chance)
        server.start()
    hits, wrong = ask_all(server, names)
    code = server.stop()
    server.start()
    healed, wrong_later = ask_all(server, names)
    good = not wrong and not wrong_later and code == 0
    good = good and hits == keys - hurt and healed == keys
    stage.tell(23, f"objects damaged while {'running' if running else 'stopped'}",
               f"{len(hurt)} of {len(keys)} damaged: {len(hurt - hits)} of these misses, {len(hits - hurt)} of {len(keys - hurt)}"
               f" others hits, {len(wrong) + len(wrong_later)} wrong; after that {len(healed)} hits", good)


def index_stopped(stage, server, names, keys, chance):
    notes, good = [], True
    for way in (flip, cut, zero, delete) if stage.quick else OF_INDEX:
        server.stop()
        index = server.cache / "index"
        if way is flip:
            # Everywhere, too: one in a few entries.
            for _ in range(200):
                way(index, chance)
        else:
            way(index, chance)
        os.chown(index, *(NOBODY, NOBODY)) if index.exists() and os.geteuid() == 0 else None
        server.start()
        hits, wrong = ask_all(server, names)
        restart(server)
        healed, wrong_later = ask_all(server, names)
        good = good and not wrong and not wrong_later and len(healed) >= len(keys) * 0.99
        notes.append(f"{way.__name__} {len(hits)}, {len(healed)}")
    stage.tell(23, "index damaged while stopped", f"hits of {len(keys)} then, and after one more start: {'; '.join(notes)}", good)


def index_running(stage, server, names, chance):
    """With half of what is asked for made anew all the time, in gzip, which renewed files are checked in."""
    loaded = server.site.many("l", 60)
    restart(server)
    base, good, notes = stage.warm(Load(server, loaded, renew=0.2)), True, []
    with Load(server, loaded, renew=0.2) as load:
        for way in OF_INDEX:
            index = server.cache / "index"
            way(index, chance)
            os.chown(index, NOBODY, NOBODY) if index.exists() and os.geteuid() == 0 else None
            time.sleep(0.3)
            begun, back = time.monotonic(), None
            while time.monotonic() - begun < 5 and server.alive():
                name = server.site.add(f"i{len(server.site.sizes)}.txt", 2000)
                time.sleep(0.1)
                first = get(server.port, name)
                if "; stored" in first.cache and get(server.port, name).hit:
                    back = time.monotonic() - begun
                    break
            good = good and back is not None
            notes.append(f"{way.__name__} {'never' if back is None else f'{back:.1f} s'}")
            if way in (replace, delete):
                # The mapped one is another file now: the next start has to make do with what is there.
                restart(server)
    stage.tell(23, "index damaged while mapped", f"stored and hit again after: {'; '.join(notes)}; {load.figures()}",
               good and load.good(cuts=True), stage.rest(base, hot=True))
    hits, wrong = ask_all(server, names)
    if wrong:
        stage.tell(23, "after that", f"{wrong[:3]}", False)


def under_load(stage, server, names, chance):
    """All of it, at random, for a time; also folders that are closed or gone."""
    loaded = [name for name in server.site.sizes if name.startswith("l-")]
    loads = lambda: (Load(server, loaded, renew=0.2), Load(server, names, renew=0, codings=CODINGS, threads=3, seed=2))
    base, done = stage.warm(*loads()), 0
    end = time.monotonic() + stage.seconds
    load, still = loads()
    with load, still:
        while time.monotonic() < end and server.alive():
            damage_anything(server, chance)
            done += 1
            time.sleep(0.01)
    for folder in (server.cache / "objects").glob("*"):
        folder.chmod(0o700)
    rest = stage.rest(base, hot=True)
    # Once more from the disk: what the workers had at hand says nothing of it. What is a miss now has to be a hit then.
    restart(server)
    _, wrong = ask_all(server, names)
    restart(server)
    hits, wrong_later = ask_all(server, names)
    good = load.good() and still.good() and not wrong + wrong_later and done > 10 and len(hits) == len(names) * len(CODINGS)
    stage.tell(23, f"objects, folders and index damaged at random under load for {stage.seconds:.0f} s",
               f"{done} times; {load.figures()}; {still.figures()}; {len(hits)} of"
               f" {len(names) * len(CODINGS)} hits afterwards", good, rest)


def damage_anything(server, chance):
    try:
        paths = server.objects()
        kind = chance.random()
        if kind < 0.02:
            chance.choice(OF_INDEX[:6])(server.cache / "index", chance)
        elif kind < 0.05:
            shutil.rmtree(chance.choice(list((server.cache / "objects").iterdir())))
        elif kind < 0.06:
            shutil.rmtree(chance.choice([server.cache / "tmp", server.cache / "objects"]))
        elif kind < 0.08:
            chance.choice(list((server.cache / "objects").iterdir())).chmod(chance.choice((0, 0o700)))
        elif kind < 0.3:
            swap(*chance.sample(paths, 2))
        else:
            chance.choice(OF_OBJECTS)(chance.choice(paths), chance)
    except (OSError, IndexError, ValueError):
        # The server has removed or replaced it meanwhile.
        pass

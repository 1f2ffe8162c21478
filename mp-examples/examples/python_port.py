"""Which numbers below 300 are prime, asked of several processes in several ways."""

import multiprocessing as mp


def smallest_factor(n):
    return next((d for d in range(2, int(n**0.5) + 1) if n % d == 0), n)


def is_prime(n):
    return n > 1 and smallest_factor(n) == n


def between(low, high):
    return sum(1 for n in range(low, high) if is_prime(n))


def worker(tasks, results, done, lock):
    while (n := tasks.get()) is not None:
        results.put((n, smallest_factor(n)))
        with lock:
            done.value += 1


def teller(connection, ready):
    connection.send("hello")
    ready.wait()
    while (question := connection.recv()) is not None:
        low, high = question
        connection.send(f"{between(low, high)} primes from {low} to {high}")


if __name__ == "__main__":
    # Workers that take their work from a queue.
    tasks, results = mp.Queue(), mp.Queue()
    done, lock = mp.Value("Q", 0), mp.Lock()
    workers = [mp.Process(target=worker, args=(tasks, results, done, lock)) for _ in range(3)]
    for process in workers:
        process.start()
    for n in range(280, 300):
        tasks.put(n)
    for _ in workers:
        tasks.put(None)
    factors = sorted(results.get() for _ in range(280, 300))
    for process in workers:
        process.join()
    print(done.value, "numbers:", [n for n, factor in factors if n == factor], "are prime")

    # A process that is asked over a connection.
    ours, theirs = mp.Pipe()
    ready = mp.Event()
    process = mp.Process(target=teller, args=(theirs, ready), name="teller")
    process.start()
    print(ours.recv())
    ready.set()
    for question in [(0, 100), (100, 200), (200, 300)]:
        ours.send(question)
        print(ours.recv())
    ours.send(None)
    process.join()
    print(process.name, "ended with", process.exitcode)

    # A pool.
    with mp.Pool(2) as pool:
        print(sum(pool.map(is_prime, range(300))), "by map")
        print(sum(pool.starmap(between, [(0, 150), (150, 300)])), "by starmap")
        print(sum(pool.imap_unordered(is_prime, range(300))), "by imap_unordered")
        print(pool.apply(smallest_factor, (299,)), "by apply")
        print(pool.apply_async(between, (0, 300)).get(timeout=10), "by apply_async")

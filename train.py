"""``python train.py`` from a clone; the program itself is :mod:`cxrlab.train`."""

try:
    from cxrlab.train import main
except ModuleNotFoundError as missing:
    if missing.name == "cxrlab":
        raise SystemExit("cxrlab is not installed for this Python; type `make install` or `pip install -e .`") from None
    raise

if __name__ == "__main__":
    main()

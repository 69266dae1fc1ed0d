"""`airgap receipt`: what a change left in a site, to be told to the connected side."""

from airgap.errors import InputError
from airgap.isolated.inventory import Taken, take_inventory
from airgap.isolated.record import Receipt
from airgap.isolated.site import Site, read_receipt
from airgap.receipt import SiteReceipt


def take_receipt(site: Site, number: int | None = None) -> tuple[SiteReceipt, Receipt, Taken]:
    """Receipt `number`, else the last one: as it is told, as the site keeps it, and its inventory.

    Raises InputError where there is no such receipt, or its generation is gone; IntegrityError, HostError.
    """
    files = site.receipt_files()
    if not files:
        raise InputError(f"{site.root}: nothing was ever installed, so there is no receipt")
    path = files[-1] if number is None else site.receipt(number)
    if path not in files:
        numbers = ", ".join(file.stem for file in files[-10:])
        raise InputError(f"{site.root}: no receipt {number}; the last are {numbers}")
    receipt = read_receipt(path)
    if receipt.generation not in site.numbers():
        raise InputError(
            f"{path}: its generation {receipt.generation} was removed, so what it held is not known",
            remedy="tell the other side what is here now: airgap receipt without a number",
        )
    taken = take_inventory(site, receipt.generation)
    told = SiteReceipt(int(path.stem), receipt.action.value, receipt.at, taken.inventory)
    return told, receipt, taken

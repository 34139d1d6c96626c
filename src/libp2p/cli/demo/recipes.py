"""The steak recipes of the demo, as HTML pages."""

from __future__ import annotations

from html import escape

_RECIPES = {
    "ribeye": (
        "Cast-iron ribeye",
        "one ribeye, 4 cm thick; salt; butter, thyme, two cloves of garlic",
        "Salt it an hour ahead and dry it well. Sear in a smoking pan, turning every minute, until 50 °C inside. "
        "Baste with foaming butter, thyme and garlic; rest ten minutes.",
    ),
    "flank": (
        "Flank steak, chimichurri",
        "700 g flank; parsley, oregano, garlic, red wine vinegar, olive oil, chilli",
        "Chop the herbs by hand and let them stand in vinegar and oil. Grill the steak very hot, three minutes a side. "
        "Slice thinly across the grain, spoon the chimichurri over.",
    ),
    "au-poivre": (
        "Steak au poivre",
        "two fillets; two tablespoons of cracked pepper; cognac; 150 ml cream; a shallot",
        "Press the pepper into the meat and fry it in butter. Soften the shallot in the same pan, add the cognac, "
        "stand back, add the cream, and reduce until it coats a spoon.",
    ),
    "bistecca": (
        "Bistecca alla fiorentina",
        "one T-bone, 1.2 kg, three fingers thick; rosemary; olive oil; coarse salt",
        "Bring it to room temperature. Five minutes a side over glowing oak, ten standing on the bone. "
        "Salt only now, a thread of oil, and nobody asks for well done.",
    ),
    "tofu": (
        "For the guest who eats no steak",
        "firm tofu in slabs; soy sauce, miso, sesame oil, spring onions",
        "Press it for half an hour, marinate it for another. Sear it like a ribeye: hot, dry, unmoved. It is not a "
        "steak, and needs no apology.",
    ),
}


def pages() -> dict[str, bytes]:
    """Path and HTML of each page; `/` links to all others."""
    links = "".join(f'<li><a href="/{slug}">{escape(title)}</a></li>' for slug, (title, _, _) in _RECIPES.items())
    index = {"/": _page("Steak recipes", f"<ul>{links}</ul>")}
    return index | {
        f"/{slug}": _page(title, f"<h2>You need</h2><p>{escape(needs)}</p><h2>And then</h2><p>{escape(steps)}</p>")
        for slug, (title, needs, steps) in _RECIPES.items()
    }


def _page(title: str, body: str) -> bytes:
    title = escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>\n'
        f"<body><h1>{title}</h1>{body}</body></html>\n"
    ).encode()

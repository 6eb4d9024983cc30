// The images: which of them, in what order, and what is drawn over them. A block of its own, since
// names of the script before stay theirs.
{
  const CHUNK = 60;
  const { classes, links, images } = JSON.parse(document.getElementById("data").textContent);
  const [classChoice, labelsChoice, orderChoice, nameFilter, cards, more, count, template] = [
    "class", "labels", "order", "name", "cards", "more", "count", "card",
  ].map((id) => document.getElementById(id));
  const panels = [...document.querySelectorAll("input[name=panel]")];
  const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
  const differs = (image) => image.missing.length + image.extra.length > 0;
  const objects = (image) => image.classes.filter(([index]) => index > 0);
  const has = (image, index) => image.missing.includes(index) || image.classes.some(([found]) => found === index);

  // Of a class, or without one of the whole image: the share of its pixels, and the confidence.
  // A class that is labelled but not found is as small and as uncertain as can be.
  const measures = {
    share: (image, index) =>
      index === null
        ? objects(image).reduce((sum, [, share]) => sum + share, 0)
        : (image.classes.find(([found]) => found === index)?.[1] ?? 0),
    sure: (image, index) =>
      index === null ? image.sure : (image.classes.find(([found]) => found === index)?.[2] ?? 0),
  };
  // what each order goes by, and whether up or down; images are by name from the start
  const orders = {
    disagreeing: ["sure", 1],
    uncertain: ["sure", 1],
    certain: ["sure", -1],
    small: ["share", 1],
    large: ["share", -1],
    name: null,
  };

  for (const [index, { name }] of classes.entries()) {
    const number = images.filter((image) => has(image, index)).length;
    if (index > 0 && number > 0) classChoice.append(new Option(`${name} (${number.toLocaleString("en")})`, index));
  }

  let found = [];
  function choose() {
    const none = classChoice.value === "none";
    const index = classChoice.value && !none ? Number(classChoice.value) : null;
    const part = nameFilter.value.trim().normalize().toLowerCase();
    const labels = labelsChoice?.value;
    found = images.filter(
      (image) =>
        (!none || objects(image).length === 0) &&
        (index === null || has(image, index)) &&
        (!labels || (image.given !== null && differs(image) === (labels === "disagree"))) &&
        image.name.normalize().toLowerCase().includes(part),
    );
    if (orders[orderChoice.value]) {
      const [measure, sign] = orders[orderChoice.value];
      const values = new Map(found.map((image) => [image, sign * measures[measure](image, index)]));
      const first = orderChoice.value === "disagreeing" ? (image) => (differs(image) ? 0 : 1) : () => 0;
      found.sort((one, other) => first(one) - first(other) || values.get(one) - values.get(other));
    }
    cards.replaceChildren();
    count.textContent = `${found.length.toLocaleString("en")} of ${images.length.toLocaleString("en")} images`;
    showMore();
  }

  // The next cards; the number of those before is their place among what was found.
  function showMore() {
    const before = cards.children.length;
    cards.append(...found.slice(before, before + CHUNK).map(cardOf));
    more.hidden = cards.children.length === found.length;
    // says again whether the button is near the screen
    near.unobserve(more);
    near.observe(more);
  }

  function cardOf(image) {
    const card = template.content.firstElementChild.cloneNode(true);
    const names = objects(image).map(([index]) => classes[index].name);
    const picture = card.querySelector("img");
    picture.style.setProperty("--ratio", image.ratio);
    picture.alt = `${image.name}: ${names.join(", ") || "no object"}`;
    picture.src = `page/${image.id}.jpg`;
    card.querySelector(".frame").href = `vis/${image.id}.png`;
    const name = card.querySelector(".name a");
    name.textContent = image.name;
    name.href = image.file;
    card.querySelector(".found").append(...linesOf(image));
    card.querySelector(".files").append(
      ...links.map(([title, folder, suffix]) => {
        const link = document.createElement("a");
        link.textContent = title;
        link.href = `${folder && `${folder}/`}${image.id}${suffix}`;
        return link;
      }),
    );
    return card;
  }

  // The classes of an image, the largest first, after the labels that have no mask; then what the
  // network took it to have, but gave no pixel.
  function linesOf(image) {
    const missing = image.missing.map((index) => line(index, "labelled, no mask", true));
    const masks = objects(image).sort((one, other) => other[1] - one[1]);
    const unseen = Object.entries(image.scores)
      .filter(([index]) => !masks.some(([mask]) => mask === Number(index)))
      .sort((one, other) => other[1] - one[1])
      .map(([index, score]) => `${classes[index].name} ${score.toFixed(2)}`);
    return [
      ...missing,
      ...masks.map(([index, share, sure]) => {
        const score = index in image.scores ? ` · score ${image.scores[index].toFixed(2)}` : "";
        const extra = image.extra.includes(index);
        const text = `${percent(share)} · ${percent(sure, 0)} sure${score}${extra ? " · not labelled" : ""}`;
        return line(index, text, extra);
      }),
      ...(missing.length || masks.length ? [] : [line(0, "alone", false)]),
      ...(unseen.length ? [remark(`no mask, score: ${unseen.join(", ")}`)] : []),
    ];
  }

  function line(index, text, marked) {
    const item = document.createElement("li");
    item.classList.toggle("differs", marked);
    const [swatch, name, numbers] = ["span", "span", "small"].map((tag) => document.createElement(tag));
    swatch.className = "swatch";
    swatch.style.background = classes[index].colour;
    name.textContent = classes[index].name;
    numbers.textContent = text;
    item.append(swatch, name, numbers);
    return item;
  }

  function remark(text) {
    const item = document.createElement("li");
    item.className = "remark";
    item.textContent = text;
    return item;
  }

  const showPanel = () => {
    const chosen = panels.findIndex((panel) => panel.checked);
    cards.style.setProperty("--panel", `${(100 * chosen) / (panels.length - 1)}%`);
  };
  const near = new IntersectionObserver((seen) => seen.some((each) => each.isIntersecting) && showMore(), {
    rootMargin: "800px",
  });

  more.addEventListener("click", showMore);
  for (const control of [classChoice, labelsChoice, orderChoice]) control?.addEventListener("change", choose);
  nameFilter.addEventListener("input", choose);
  nameFilter.form.addEventListener("submit", (event) => event.preventDefault());
  for (const panel of panels) panel.addEventListener("change", showPanel);
  for (const link of document.querySelectorAll("a[data-class]")) {
    link.addEventListener("click", () => {
      if (![...classChoice.options].some(({ value }) => value === link.dataset.class)) {
        classChoice.append(new Option(link.textContent, link.dataset.class));
      }
      classChoice.value = link.dataset.class;
      choose();
    });
  }
  showPanel();
  choose();
}

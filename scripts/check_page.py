"""A person at the page of `soraverify serve`; run by scripts/check-page."""

import base64
import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

DROP = """(input, [name, data]) => {
    const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type: "video/mp4" }));
    input.files = transfer.files;
}"""

SEEN = [
    ("signed.mp4", "Signed, and unchanged since", "authentic"),
    ("half.mp4", "Its manifest was found again", "recovered"),
    ("plain.mp4", "Nothing was found", "no_evidence"),
]


def main() -> None:
    program, address, clips, pictures = sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        for scripts, width in [(True, 1000), (False, 390)]:
            context = browser.new_context(
                java_script_enabled=scripts, viewport={"width": width, "height": 800}
            )
            page = context.new_page()
            foreign, problems = [], []
            page.on("request", lambda request: foreign.append(request.url))
            page.on("console", lambda message: problems.append(message.text))
            page.goto(address)
            kind = "scripts" if scripts else "none"
            page.screenshot(path=pictures / f"form-{kind}.png", full_page=True)
            for name, title, verdict in SEEN:
                field = page.get_by_label("A video")
                if scripts:
                    # What a drop on the field does.
                    data = base64.b64encode((clips / name).read_bytes()).decode()
                    field.evaluate(DROP, [name, data])
                else:
                    field.set_input_files(clips / name)
                page.get_by_role("button", name="Check the clip").click()
                answer = page.get_by_role("status")
                expect(answer.get_by_role("heading", name=title)).to_be_visible(timeout=120_000)
                expect(answer).to_contain_text(verdict)
                expect(answer).to_contain_text(name)
                page.screenshot(path=pictures / f"{verdict}-{kind}.png", full_page=True)
                overflow = 0 if not scripts else page.evaluate(
                    "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                )
                assert overflow <= 0, f"{verdict}: the page is {overflow} pixels too wide"
            strangers = [url for url in foreign if not url.startswith(address)]
            assert not strangers, f"asked elsewhere: {strangers}"
            # Browsers ask for an icon by themselves; there is none.
            problems = [text for text in problems if "404" not in text]
            assert not problems, f"the console says: {problems}"
            print(f"    width {width}, scripts {'on' if scripts else 'off'}: {len(SEEN)} verdicts read")
            context.close()
        browser.close()


main()

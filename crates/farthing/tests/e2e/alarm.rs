//! Prices that are going to change: said by the gateway, its metrics, its page and the bill.

use std::process::Command;

use crate::client::Call;
use crate::diff::{call, model, put};
use crate::home::{Home, eventually, upstream};

/// A time from now, as a price book has it.
fn from_now(away: &str, form: &str) -> String {
    let date = Command::new("date").args(["-u", "-d", away, form]).output().unwrap();
    String::from_utf8(date.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_told_in_time_to_who_uses_the_model() {
    let server = model().await;
    let config = format!("price_books = [\"book\"]\n{}", upstream("openai", server.address));
    let home = Home::new(&config);
    let day = from_now("+10 days", "+%F");
    put(
        &home,
        "book",
        &format!(
            "model later\nstandard input_uncached=2 output_text=10\n\
             standard from={day} input_uncached=4 output_text=20\n\
             model unused\nstandard input_uncached=2 output_text=10\n\
             standard from={day} input_uncached=4 output_text=20\n"
        ),
    );
    let gateway = home.serve();
    let samples = async || {
        let page = Call::get("/metrics").send(&gateway).await;
        let text = page.text();
        let ours = |line: &&str| line.starts_with("farthing_price_change_timestamp_seconds{");
        text.lines().filter(ours).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(samples().await.is_empty(), "nobody was served");
    call(&gateway, "later", 5).await;
    let words = format!(
        "test/later (standard) changes on {day}, in 9 days: input_uncached 2 -> 4, output_text 10 -> 20"
    );
    let words = words.as_str();
    eventually("it is told", || {
        gateway.said().contains(&format!("the price of {words}; `farthing price schedule` tells"))
    })
    .await;
    assert!(!gateway.said().contains("unused"), "{}", gateway.said());
    let seconds = from_now(&day, "+%s");
    let seen = [
        "farthing_price_change_timestamp_seconds{provider=\"test\",model=\"later\",\
         tier=\"standard\"} ",
        &seconds,
    ];
    assert_eq!(samples().await, [seen.concat()]);
    let page = Call::get("/farthing/api/bill").send(&gateway).await.json();
    assert!(page["price_changes"].to_string().contains(words), "{page}");

    home.once_settled(1).await;
    let bill = home.run(&["bill"]).ok();
    assert!(
        bill.contains("Prices of these models are going to change") && bill.contains(words),
        "{bill}"
    );
    assert!(!bill.contains("unused"), "{bill}");
    let json = home.run(&["bill", "--json"]).json();
    let change = json["price_changes"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&change["model"], &change["from"]),
        (&"later".into(), &format!("{day}T00:00:00Z").into())
    );
    // A period that has ended stays as it was.
    let end = home.journal().0.iter().map(|one| one.settlement.at).max().unwrap();
    let end = end.plus(std::time::Duration::from_millis(1)).to_string();
    let past = home.run(&["bill", "--until", &end]).ok();
    assert!(!past.contains("going to change"), "{past}");

    gateway.stop().await;

    // The next gateway knows from the journal who was served.
    let gateway = home.serve();
    eventually("it is told again", || gateway.said().contains(words)).await;
    gateway.stop().await;
    home.configure(&format!("price_alarm = \"5d\"\n{config}"));
    let gateway = home.serve();
    call(&gateway, "later", 5).await;
    let said = gateway.stop().await;
    assert!(!said.contains("changes on"), "{said}");
}
